"""The attention block of a layer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation
from moesim.hardware.precision import activation_dtype, dtype_of
from moesim.hardware.roofline import Floats
from moesim.model.spec import AttentionSpec, LayerSpec

STARTS = 6
"""Norm, joint projection, rotation with cache write, scores, output projection, norm."""
CROSS_STARTS = 4
"""Norm, query projection, scores, output projection."""
PASSES = 8
"""Reads and writes of the hidden state by norms, residuals and projections."""


class Attention(Operation):
    """Projections by the roofline of their weights, scores by that of the KV cache.

    The scores' key size is the uncompressed one; multi-head latent attention reads only its latent.
    Of cross attention query and output projection are priced; its keys are not (the source is no
    argument of a price).
    """

    kind: ClassVar[str] = "attention"

    def price(
        self, layer: LayerSpec, tokens: ArrayLike, context_tokens: ArrayLike, kv_tokens: ArrayLike
    ) -> Floats:
        """See ``CostModel.attention_ns``."""
        count, block = np.asarray(tokens, np.int64), layer.attention
        size = self.model.activation_bytes
        time = self._projections(block, count, block.parameters, block.bytes + layer.norm_bytes)
        time = time + self._scores(block, context_tokens, kv_tokens)
        time = time + self.gpu.activations_ns(count * (PASSES * self.model.hidden_size * size))
        starts = STARTS
        if (cross := layer.cross_attention) is not None:
            used = self.model.hidden_size * cross.heads
            used *= cross.query_key_head_size + cross.value_head_size
            share = min(1.0, used / max(cross.parameters, 1))
            time = time + self._projections(cross, count, used, cross.bytes * share)
            starts += CROSS_STARTS
        return np.where(count > 0, time + starts * self.gpu.start_ns, 0.0)

    def _projections(
        self, block: AttentionSpec, tokens: ArrayLike, elements: int, size: float
    ) -> Floats:
        return self.gpu.product_ns(tokens, elements, size, dtype_of(block.parameters, block.bytes))

    def _scores(
        self, block: AttentionSpec, context_tokens: ArrayLike, kv_tokens: ArrayLike
    ) -> Floats:
        head = block.query_key_head_size + block.value_head_size
        operations = np.asarray(context_tokens, np.float64) * (2 * block.heads * head)
        cached = np.asarray(kv_tokens, np.float64) * block.kv_bytes_per_token
        dtype = activation_dtype(self.model.activation_bytes)
        return np.maximum(self.gpu.weights_ns(cached), self.gpu.operations_ns(operations, dtype))
