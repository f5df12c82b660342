"""An all-reduce over GPUs of one node."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.basis import by_source
from moesim.hardware.collective_kernel import ROUNDS, collective_curve, collective_fit_for
from moesim.hardware.operation import Operation
from moesim.hardware.roofline import NS, Floats
from moesim.hardware.transfer_curve import Curve


class AllReduce(Operation):
    """A ring: latency + 2 (g - 1) / g of the bytes over what a GPU's link reaches in it.

    Where the profile has a fit, that.
    """

    kind: ClassVar[str] = "all_reduce"

    def price(self, gpus: int, size: ArrayLike) -> Floats:
        """See ``CostModel.all_reduce_ns``."""
        amount = np.asarray(size, np.int64)
        if gpus == 1:
            return np.zeros(amount.shape)
        if (curve := self._curve(gpus)) is not None:
            return np.where(amount > 0, curve.price(amount), 0.0)
        peers = self.hardware.datasheet.peers
        sent = ROUNDS[self.kind] * amount * (gpus - 1) / gpus
        time = peers.all_reduce_latency_ns + sent * NS / peers.all_reduce_bytes_per_second
        return np.where(amount > 0, time, 0.0)

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``."""
        gpus, size = shape
        if gpus == 1 or (curve := self._curve(gpus)) is None:
            return super().rests_on(price_ns, *shape)
        return by_source(price_ns, curve.sources(size))

    def _curve(self, gpus: int) -> Curve | None:
        fit = collective_fit_for(self.hardware.calibrated, self.kind)
        return collective_curve(fit, gpus) if fit else None
