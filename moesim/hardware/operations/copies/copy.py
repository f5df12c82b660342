"""A copy between host and GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.copy_curve import copy_curve, copy_fit_for
from moesim.hardware.prices.parts import Amount, Detail, Part, where
from moesim.hardware.prices.provenance import Source
from moesim.hardware.prices.transfer_curve import Curve

if TYPE_CHECKING:
    from moesim.hardware.profile import HardwareProfile
    from moesim.model.spec import ModelSpec

Way = Literal["h2d", "d2h", "p2p"]
GIGA = 1_000_000_000


class Copy(Operation):
    """Latency and bandwidth, in whole nanoseconds and exact.

    Where the profile has a fit of that direction and kind of host memory, its curve over bytes.
    A run has copies between host and GPU alone; ``p2p`` ones go to another GPU, and ``gpus`` are
    those that copied at once where a fit was measured so (in a run they share links).
    """

    kind: ClassVar[str] = "copy"
    rounds_up: ClassVar[bool] = True
    machine_part: ClassVar[str] = "link"
    category: ClassVar[str] = "waiting_for_weights"

    def __init__(self, hardware: HardwareProfile, model: ModelSpec, **choices: Any) -> None:
        super().__init__(hardware, model, **choices)
        self._curves: dict[tuple[str, bool, float], Curve | None] = {}

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits(curve.fit for curve in self._curves.values() if curve is not None)

    def parts(
        self, size: ArrayLike, direction: Way, pinned: bool = True, copies: int = 1,
        gpus: float = 1,
    ) -> list[Part]:  # fmt: skip
        """See ``CostModel.copy_ns``."""
        amount = np.asarray(size, np.float64)
        if (curve := self._curve(direction, pinned, gpus)) is not None:
            part = curve.part(amount / copies)
            return where(amount > 0, [part._replace(time_ns=np.ceil(copies * part.time_ns))])
        latency, rate = self._datasheet(direction, pinned)
        exact = -(-np.asarray(size, object) * GIGA // rate)
        time = np.asarray(exact, np.float64)
        moved = Amount("bytes", time, amount, "B", rate)
        bytes_part = Part(time, name="bytes", of=lambda: Detail((moved,)))
        return where(amount > 0, [Part(np.asarray(copies * latency), name="latency"), bytes_part])

    def sources(
        self, size: ArrayLike, direction: Way, pinned: bool = True, copies: int = 1,
        gpus: float = 1,
    ) -> Source | Ints:  # fmt: skip
        """See ``Operation``."""
        if (curve := self._curve(direction, pinned, gpus)) is None:
            return Source.DATASHEET
        least, most = curve.fit.measured.get("gpus", (1, 1))
        found = curve.sources(np.asarray(size) / copies)
        return found if least <= gpus <= most else np.full_like(found, Source.OUTSIDE)

    def _datasheet(self, direction: Way, pinned: bool) -> tuple[int, int]:
        """Whole nanoseconds and bytes a second."""
        sheet = self.hardware.datasheet
        if direction == "p2p":
            return round(sheet.peers.latency.value), int(sheet.peers.bandwidth.value)
        copy = sheet.copy_of(direction, pinned)
        return copy.latency_ns, copy.bytes_per_second

    def _curve(self, direction: Way, pinned: bool, gpus: float) -> Curve | None:
        key = (direction, pinned, gpus)
        if key not in self._curves:
            fit = copy_fit_for(self.hardware.calibrated, f"copy_{direction}", pinned, gpus)
            self._curves[key] = copy_curve(fit, self.measured) if fit else None
        return self._curves[key]


class MadeOfCopies(Operation):
    """What is copies, each as ``Copy`` prices them."""

    rounds_up: ClassVar[bool] = True
    machine_part: ClassVar[str] = "link"

    def __init__(self, hardware: HardwareProfile, model: ModelSpec, **choices: Any) -> None:
        super().__init__(hardware, model, **choices)
        self._copy = Copy(hardware, model, **choices)

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return self._copy.fits
