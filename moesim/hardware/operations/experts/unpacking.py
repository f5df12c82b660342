"""Packed weights of experts that are unpacked into the GPU's memory before each product."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation
from moesim.hardware.prices.parts import Part
from moesim.model.spec import LayerSpec


class Unpacking(Operation):
    """What unpacking writes and reads again, at the memory's bandwidth, in whole nanoseconds an
    expert.

    It is a part of the price of each launch of experts (``experts``), and charged apart.
    """

    kind: ClassVar[str] = "unpacking"
    category: ClassVar[str] = "unpacking"

    def parts(self, layer: LayerSpec, experts: ArrayLike) -> list[Part]:
        """Of so many ``experts`` int[n]; nothing where they are read as they are."""
        size = layer.moe.expert.unpacking_bytes if layer.moe is not None else 0
        each = np.floor(self.gpu.weights_ns(size) + 0.5)
        return [Part(np.asarray(experts, np.float64) * each, name="unpacking")]
