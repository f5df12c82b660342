"""A small kernel that decides on the device which copies start."""

from __future__ import annotations

from typing import ClassVar

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.kernels.work import kernel_fit_for
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part
from moesim.hardware.prices.provenance import Source


class Decide(Operation):
    """One start-up."""

    kind: ClassVar[str] = "decide"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.GATE,
            "gate",
            lambda _layer, _at: (),
            when=lambda setting, layer: setting.decides_on_device and layer.moe is not None,
        ),
    )

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits((kernel_fit_for(self.hardware, "launch"),))

    def parts(self) -> list[Part]:
        """Of any number of tokens."""
        return [self.gpu.starts(1)]

    def sources(self) -> Source:
        """See ``Operation``."""
        return Source.FITTED if kernel_fit_for(self.hardware, "launch") else Source.DATASHEET
