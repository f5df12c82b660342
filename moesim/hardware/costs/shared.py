"""The shared expert of a MoE layer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation
from moesim.hardware.roofline import Floats
from moesim.model.spec import LayerSpec

STARTS = 3
"""First product, activation, second product."""


class Shared(Operation):
    """As a dense layer's network, over every token."""

    kind: ClassVar[str] = "shared"

    def price(self, layer: LayerSpec, tokens: ArrayLike) -> Floats:
        """See ``CostModel.shared_ns``."""
        if layer.moe is None or layer.moe.shared is None:
            return np.zeros(np.shape(tokens))
        return self.gpu.ffn_ns(layer.moe.shared, tokens, self.model.activation_bytes, STARTS)
