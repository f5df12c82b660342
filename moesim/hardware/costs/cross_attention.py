"""What a decoder layer does with the source: its keys and values, and the scores over them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.basis import Source
from moesim.hardware.calibrated_products import FittedProducts, Weights
from moesim.hardware.operation import Operation
from moesim.hardware.parts import Part, resting, together
from moesim.hardware.precision import activation_dtype, dtype_of
from moesim.hardware.roofline import Floats
from moesim.model.spec import AttentionSpec, LayerSpec


class CrossAttention(Operation):
    """Scores by the roofline of the source's cache, and one joint projection of keys and values.

    The scores' kernel starts in the price of ``attention``. The projection reads hidden rows and
    writes keys and values; where the profile has a fit of products, it is one of them.
    """

    kind: ClassVar[str] = "cross_attention"

    def price(
        self,
        layer: LayerSpec,
        context_tokens: ArrayLike,
        kv_tokens: ArrayLike,
        projected_tokens: ArrayLike,
    ) -> Floats:
        """See ``CostModel.cross_attention_ns``."""
        if layer.cross_attention is None:
            return np.zeros(np.shape(context_tokens))
        return together(
            self._parts(layer.cross_attention, context_tokens, kv_tokens, projected_tokens)
        )

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``."""
        layer, *tokens = shape
        if layer.cross_attention is None:
            return super().rests_on(price_ns, *shape)
        return resting(price_ns, self._parts(layer.cross_attention, *tokens))

    def _parts(
        self, block: AttentionSpec, context: ArrayLike, kv: ArrayLike, projected: ArrayLike
    ) -> list[Part]:
        head = block.query_key_head_size + block.value_head_size
        operations = np.asarray(context, np.float64) * (2 * block.heads * head)
        read = self.gpu.weights_ns(np.asarray(kv, np.float64) * block.kv_bytes_per_token)
        work = self.gpu.operations_ns(operations, activation_dtype(self.model.activation_bytes))
        scores = Part(np.maximum(read, work), Source.DATASHEET)
        return [scores, self._projection(block, projected, block.kv_heads * head)]

    def _projection(self, block: AttentionSpec, tokens: ArrayLike, columns: int) -> Part:
        """Keys and values, ``columns`` elements in all, of ``tokens``; nothing without them."""
        hidden, count = self.model.hidden_size, np.asarray(tokens, np.int64)
        dtype = dtype_of(block.parameters, block.bytes)
        width = block.bytes / max(block.parameters, 1)
        if fitted := FittedProducts(self.hardware, dtype):
            return fitted.price(count, Weights(columns, hidden, width))
        elements = hidden * columns
        time = self.gpu.product_ns(count, elements, elements * width, dtype)
        moved = (hidden + columns) * self.model.activation_bytes
        time = time + self.gpu.activations_ns(count * moved) + self.gpu.start_ns
        return Part(np.where(count > 0, time, 0.0), Source.DATASHEET)
