"""Static gating's masks and its dispatch product."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.costs.combine_product import CombineProduct
from moesim.hardware.positions import positions_ns
from moesim.hardware.roofline import Floats
from moesim.model.spec import LayerSpec

MASK_TRAFFIC = 40
"""Bytes of memory traffic an element of tokens x experts x capacity: three fp32 tensors written and
read, a boolean one, two in fp16 (38 to 45, counted in fairseq's gate)."""


class Masks(CombineProduct):
    """The traffic of positions and masks, and a product as the combine's."""

    kind: ClassVar[str] = "masks"

    def price(
        self, layer: LayerSpec, tokens: ArrayLike, experts: ArrayLike, capacity: ArrayLike
    ) -> Floats:
        """See ``CostModel.masks_ns``."""
        counts = (np.asarray(count, np.float64) for count in (tokens, experts, capacity))
        elements = np.asarray(math.prod(counts), np.float64)
        building = self.gpu.weights_ns(MASK_TRAFFIC * elements) + self.gpu.start_ns
        building = building + positions_ns(self.gpu, layer, tokens, experts)
        product = super().price(layer, tokens, experts, capacity)
        return np.where(elements > 0, building + product, 0.0)
