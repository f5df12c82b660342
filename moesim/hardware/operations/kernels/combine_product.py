"""Static gating's combine: a dense product of the masks with the experts' rows."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Shapes, Stage
from moesim.hardware.described.precision import activation_dtype
from moesim.hardware.operation import Operation
from moesim.hardware.prices.parts import Part, where
from moesim.hardware.row_tiles import padded
from moesim.model.spec import LayerSpec


def masked(layer: LayerSpec, at: Shapes) -> tuple[Any, ...]:
    """What a product with masks of tokens x experts x capacity depends on."""
    return layer, at.most_tokens, at.experts, at.capacity


class CombineProduct(Operation):
    """2 x experts x capacity x tokens x hidden operations on activation-sized elements."""

    kind: ClassVar[str] = "combine_product"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.AFTER, "dispatch_combine", masked, "unpermute",
            lambda setting, layer: setting.masks and layer.moe is not None, by_routing=True,
        ),
    )  # fmt: skip

    def parts(
        self, _layer: LayerSpec, tokens: ArrayLike, experts: ArrayLike, capacity: ArrayLike
    ) -> list[Part]:
        """Of ``tokens`` int[n] with masks of so many ``experts`` and places each."""
        count, hidden = np.asarray(tokens, np.int64), self.model.hidden_size
        slots = np.asarray(experts, np.float64) * np.asarray(capacity, np.float64)
        size = self.model.activation_bytes
        dtype = activation_dtype(size)
        efficient = padded(count, self.gpu.row_tile(count, dtype)) + self.gpu.half_rows(dtype)
        work = efficient * slots * (2.0 * hidden)
        moved = (count * slots + (count + slots) * hidden) * size
        product = self.gpu.longest(moved, work, dtype)
        return where(count * slots > 0, [product, self.gpu.starts(1)])
