"""What a decoder layer does with the source: its keys and values, and the scores over them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.described.precision import activation_dtype, dtype_of
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.products.calibrated import FittedProducts, Weights, product_parts
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part
from moesim.model.spec import LayerSpec


class CrossAttention(Operation):
    """Scores by the roofline of the source's cache, and one joint projection of keys and values.

    The scores' kernel starts in the price of ``attention``. The projection reads hidden rows and
    writes keys and values; where the profile has a fit of products, it is one of them.
    """

    kind: ClassVar[str] = "cross_attention"
    by_part = True
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.BEFORE_GATE,
            "attention",
            lambda layer, at: (layer, *at.sources),
            when=lambda _, layer: layer.cross_attention is not None,
        ),
    )

    @property
    def _dtypes(self) -> set[str]:
        blocks = (one.cross_attention for one in self.model.layers)
        return {dtype_of(block.parameters, block.bytes) for block in blocks if block}

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits(FittedProducts(self.hardware, one).fit for one in self._dtypes)

    def parts(
        self,
        layer: LayerSpec,
        context_tokens: ArrayLike,
        kv_tokens: ArrayLike,
        projected_tokens: ArrayLike,
    ) -> list[Part]:
        """See ``CostModel.cross_attention_ns``."""
        if (block := layer.cross_attention) is None:
            return [Part(np.zeros(np.shape(context_tokens)))]
        head = block.query_key_head_size + block.value_head_size
        operations = np.asarray(context_tokens, np.float64) * (2 * block.heads * head)
        cached = np.asarray(kv_tokens, np.float64) * block.kv_bytes_per_token
        size = self.model.activation_bytes
        scores = self.gpu.longest(cached, operations, activation_dtype(size), "scores")
        dtype = dtype_of(block.parameters, block.bytes)
        width = block.bytes / max(block.parameters, 1)
        weights = Weights(block.kv_heads * head, self.model.hidden_size, width)
        return [scores, *product_parts(self.gpu, projected_tokens, weights, dtype, size)]
