"""Static gating's masks and its dispatch product."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operations.kernels.combine_product import CombineProduct, masked
from moesim.hardware.operations.kernels.positions import positions
from moesim.hardware.prices.parts import Part, where
from moesim.model.spec import LayerSpec

MASK_TRAFFIC = 40
"""Bytes of memory traffic an element of tokens x experts x capacity: three fp32 tensors written and
read, a boolean one, two in fp16 (38 to 45, counted in fairseq's gate)."""


class Masks(CombineProduct):
    """The traffic of positions and masks, and a product as the combine's."""

    kind: ClassVar[str] = "masks"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.PERMUTE, "gate", masked, "permute rows",
            lambda setting, layer: setting.masks and layer.moe is not None, by_routing=True,
        ),
    )  # fmt: skip

    def parts(
        self, layer: LayerSpec, tokens: ArrayLike, experts: ArrayLike, capacity: ArrayLike
    ) -> list[Part]:
        """See ``CostModel.masks_ns``."""
        counts = (np.asarray(count, np.float64) for count in (tokens, experts, capacity))
        elements = np.asarray(math.prod(counts), np.float64)
        building = [
            self.gpu.reads(MASK_TRAFFIC * elements, "masks"),
            self.gpu.starts(1),
            positions(self.gpu, layer, tokens, experts),
        ]
        return where(elements > 0, [*building, *super().parts(layer, tokens, experts, capacity)])
