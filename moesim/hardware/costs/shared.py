"""The shared expert of a MoE layer."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.calibrated_products import ffn_parts
from moesim.hardware.operation import Operation
from moesim.hardware.parts import resting, together
from moesim.hardware.roofline import Floats
from moesim.model.spec import LayerSpec

STARTS = 3
"""First product, activation, second product."""


class Shared(Operation):
    """As a dense layer's network, over every token."""

    kind: ClassVar[str] = "shared"

    def price(self, layer: LayerSpec, tokens: ArrayLike) -> Floats:
        """See ``CostModel.shared_ns``."""
        if layer.moe is None or (shared := layer.moe.shared) is None:
            return np.zeros(np.shape(tokens))
        return together(ffn_parts(self.gpu, shared, tokens, self.model.activation_bytes, STARTS))

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``."""
        layer, tokens = shape
        if layer.moe is None or (shared := layer.moe.shared) is None:
            return super().rests_on(price_ns, *shape)
        parts = ffn_parts(self.gpu, shared, tokens, self.model.activation_bytes, STARTS)
        return resting(price_ns, parts)
