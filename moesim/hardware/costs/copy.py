"""A copy between host and GPU."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar

from moesim.hardware.basis import by_source
from moesim.hardware.copy_curve import copy_curve, copy_fit_for
from moesim.hardware.datasheet import Direction
from moesim.hardware.operation import Operation
from moesim.hardware.roofline import Floats
from moesim.hardware.transfer_curve import Curve

if TYPE_CHECKING:
    from moesim.hardware.profile import HardwareProfile
    from moesim.model.spec import ModelSpec

GIGA = 1_000_000_000


class Copy(Operation):
    """Latency and bandwidth, in whole nanoseconds and exact.

    Where the profile has a fit of that direction and kind of host memory, its curve over bytes.
    """

    kind: ClassVar[str] = "copy"

    def __init__(self, hardware: HardwareProfile, model: ModelSpec, **choices: Any) -> None:
        super().__init__(hardware, model, **choices)
        self._curves: dict[tuple[Direction, bool], Curve | None] = {}

    def price(self, size: int, direction: Direction, pinned: bool, copies: int) -> int:
        """See ``CostModel.copy_ns``."""
        if size == 0:
            return 0
        if (curve := self._curve(direction, pinned)) is not None:
            return ceil(copies * float(curve.price(size / copies)))
        copy = self.hardware.datasheet.copy_of(direction, pinned)
        return copies * copy.latency_ns - (-size * GIGA // copy.bytes_per_second)

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``."""
        size, direction, pinned, copies = shape
        if (curve := self._curve(direction, pinned)) is None:
            return super().rests_on(price_ns, *shape)
        return by_source(price_ns, curve.sources(size / copies))

    def _curve(self, direction: Direction, pinned: bool) -> Curve | None:
        if (direction, pinned) not in self._curves:
            fit = copy_fit_for(self.hardware.calibrated, f"copy_{direction}", pinned)
            self._curves[direction, pinned] = copy_curve(fit) if fit else None
        return self._curves[direction, pinned]
