"""An all-reduce over GPUs of one node."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Shapes, Stage
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.collectives.kernel import (
    ROUNDS,
    collective_curve,
    collective_fit_for,
    sending,
)
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part, where
from moesim.hardware.prices.provenance import Source
from moesim.hardware.prices.transfer_curve import Curve
from moesim.model.spec import LayerSpec


def _hidden(_layer: LayerSpec, at: Shapes) -> tuple[int, Ints]:
    """The hidden vectors of the group's tokens."""
    return at.setting.group, at.group_tokens * at.row_bytes


class AllReduce(Operation):
    """A ring: latency + 2 (g - 1) / g of the bytes over what a GPU's link reaches in it.

    Where the profile has a fit, that.
    """

    kind: ClassVar[str] = "all_reduce"
    rounds_up: ClassVar[bool] = True
    machine_part: ClassVar[str] = "peers"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.BEFORE_GATE,
            "attention",
            _hidden,
            when=lambda setting, _: setting.group > 1,
            reduced=True,
        ),
        Charge(
            Stage.BEFORE_GATE,
            "attention",
            _hidden,
            when=lambda setting, layer: setting.group > 1 and layer.moe is None,
            reduced=True,
        ),
        Charge(
            Stage.AFTER,
            "dispatch_combine",
            _hidden,
            when=lambda setting, layer: setting.group > 1 and layer.moe is not None,
        ),
        Charge(Stage.HEAD, "attention", _hidden, "head", when=lambda setting, _: setting.group > 1),
    )

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits((collective_fit_for(self.hardware.calibrated, self.kind),))

    def parts(self, gpus: int, size: ArrayLike) -> list[Part]:
        """See ``CostModel.all_reduce_ns``."""
        amount = np.asarray(size, np.int64)
        if gpus == 1:
            return [Part(np.zeros(amount.shape))]
        if (curve := self._curve(gpus)) is not None:
            return where(amount > 0, [curve.part(amount)])
        peers = self.hardware.datasheet.peers
        sent = ROUNDS[self.kind] * amount * (gpus - 1) / gpus
        latency = Part(np.asarray(float(peers.all_reduce_latency_ns)), name="latency")
        return where(amount > 0, [latency, sending(sent, peers.all_reduce_bytes_per_second, peers)])

    def sources(self, gpus: int, size: ArrayLike) -> Source | Ints:
        """See ``Operation``."""
        curve = self._curve(gpus) if gpus > 1 else None
        return Source.DATASHEET if curve is None else curve.sources(size)

    def _curve(self, gpus: int) -> Curve | None:
        fit = collective_fit_for(self.hardware.calibrated, self.kind)
        return collective_curve(fit, gpus, self.measured) if fit else None
