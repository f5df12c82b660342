"""The attention block of a layer."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.basis import Source
from moesim.hardware.calibrated_products import FittedProducts, Weights
from moesim.hardware.fitted_attention import fitted_scores, uniform
from moesim.hardware.operation import Operation
from moesim.hardware.parts import Part, resting, together
from moesim.hardware.precision import activation_dtype, dtype_of
from moesim.hardware.roofline import Floats
from moesim.model.spec import AttentionSpec, LayerSpec

STARTS = 6
"""Norm, joint projection, rotation with cache write, scores, output projection, norm."""
CROSS_STARTS = 4
"""Norm, query projection, scores, output projection."""
PASSES = 8
"""Reads and writes of the hidden state by norms, residuals and projections."""
PROJECTIONS = 2
"""Of the starts, and of the passes, those that a fitted price of both projections contains."""


class Attention(Operation):
    """Projections by the roofline of their weights, scores by that of the KV cache.

    The scores' key size is the uncompressed one; multi-head latent attention reads only its latent.
    Of cross attention query and output projection are priced, and the start of its scores; what it
    does with the source is ``cross_attention``. Where the profile has fits, projections are two
    products (joint and output) and scores a kernel (``fitted_scores``), each with its own start.
    """

    kind: ClassVar[str] = "attention"

    def price(
        self, layer: LayerSpec, tokens: ArrayLike, context_tokens: ArrayLike, kv_tokens: ArrayLike
    ) -> Floats:
        """See ``CostModel.attention_ns``."""
        return together(self._parts(layer, tokens, context_tokens, kv_tokens))

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``."""
        return resting(price_ns, self._parts(*shape))

    def _parts(
        self, layer: LayerSpec, tokens: ArrayLike, context_tokens: ArrayLike, kv_tokens: ArrayLike
    ) -> list[Part]:
        """The parts of each price; none without tokens."""
        count, block = np.asarray(tokens, np.int64), layer.attention
        starts, passes = STARTS, PASSES
        projections, inside = self._projections(block, count, block.parameters, layer.norm_bytes)
        starts, passes = starts - inside, passes - inside
        if (cross := layer.cross_attention) is not None:
            used = self.model.hidden_size * cross.heads
            used *= cross.query_key_head_size + cross.value_head_size
            more, inside = self._projections(cross, count, used, 0)
            projections, starts = projections + more, starts + CROSS_STARTS - inside
        scores, alone = self._scores(block, count, context_tokens, kv_tokens)
        hidden = self.model.hidden_size * self.model.activation_bytes
        rest = self.gpu.activations_ns(count * (passes * hidden))
        rest = rest + (starts - alone) * self.gpu.start_ns
        parts = [*projections, *scores, Part(rest, Source.DATASHEET)]
        return [Part(np.where(count > 0, part.time_ns, 0.0), part.source) for part in parts]

    def _projections(
        self, block: AttentionSpec, count: Any, elements: int, norm_bytes: int
    ) -> tuple[list[Part], int]:
        """The projections with ``elements`` weights, and how many launches they contain."""
        dtype = dtype_of(block.parameters, block.bytes)
        width = block.bytes / max(block.parameters, 1)
        size = block.bytes * min(1.0, elements / max(block.parameters, 1)) + norm_bytes
        if not (fitted := FittedProducts(self.hardware, dtype)):
            time = self.gpu.product_ns(count, elements, size, dtype)
            return [Part(time, Source.DATASHEET)], 0
        hidden, last = self.model.hidden_size, block.heads * block.value_head_size
        first = max(elements / hidden - last, 1.0)
        pair = (Weights(first, hidden, width), Weights(hidden, last, width))
        return [fitted.price(count, weights) for weights in pair], PROJECTIONS

    def _scores(
        self, block: AttentionSpec, count: Any, context_tokens: ArrayLike, kv_tokens: ArrayLike
    ) -> tuple[list[Part], Any]:
        """The scores, and where they contain their launch (0 or 1)."""
        head = block.query_key_head_size + block.value_head_size
        operations = np.asarray(context_tokens, np.float64) * (2 * block.heads * head)
        cached = np.asarray(kv_tokens, np.float64) * block.kv_bytes_per_token
        size = self.model.activation_bytes
        work = self.gpu.operations_ns(operations, activation_dtype(size))
        time = np.maximum(self.gpu.weights_ns(cached), work)
        requests = uniform(count, context_tokens, kv_tokens)
        found = fitted_scores(self.hardware, block, size, requests)
        time = np.where(found.fitted, found.time_ns, time)
        return [Part(time, found.source)], found.fitted.astype(np.int64)
