"""The feed-forward network of a dense layer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation
from moesim.hardware.roofline import Floats
from moesim.model.spec import LayerSpec

STARTS = 3
"""First product, activation, second product."""


class Dense(Operation):
    """The roofline of its weights, and activation traffic."""

    kind: ClassVar[str] = "dense"

    def price(self, layer: LayerSpec, tokens: ArrayLike) -> Floats:
        """See ``CostModel.dense_ns``."""
        if layer.dense is None:
            return np.zeros(np.shape(tokens))
        return self.gpu.ffn_ns(layer.dense, tokens, self.model.activation_bytes, STARTS)
