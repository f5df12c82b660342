"""An all-to-all between the GPUs of one node."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.basis import by_source
from moesim.hardware.collective_kernel import collective_curve, collective_fit_for
from moesim.hardware.operation import Operation
from moesim.hardware.roofline import NS, Floats, Ints
from moesim.hardware.transfer_curve import Curve


class AllToAll(Operation):
    """Latency + the busiest GPU's bytes, out or in, over what a GPU reaches.

    Where the profile has a fit, the time of an even all-to-all in which every GPU sends as much as
    the busiest one.
    """

    kind: ClassVar[str] = "all_to_all"

    def price(self, matrix: ArrayLike) -> Floats:
        """See ``CostModel.all_to_all_ns``."""
        sent = np.asarray(matrix, np.int64)
        gpus = sent.shape[-1]
        if gpus == 1:
            return np.zeros(sent.shape[:-2])
        if (curve := self._curve(gpus)) is not None:
            return curve.price(_held(sent))
        peers = self.hardware.datasheet.peers
        rate = peers.all_to_all_bytes_per_second
        return np.asarray(round(peers.latency.value) + _busiest(sent) * NS / rate, np.float64)

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``."""
        sent = np.asarray(shape[0], np.int64)
        gpus = sent.shape[-1]
        if gpus == 1 or (curve := self._curve(gpus)) is None:
            return super().rests_on(price_ns, *shape)
        return by_source(price_ns, curve.sources(_held(sent)))

    def _curve(self, gpus: int) -> Curve | None:
        fit = collective_fit_for(self.hardware.calibrated, self.kind)
        return collective_curve(fit, gpus) if fit else None


def _busiest(sent: Ints) -> Ints:
    """The largest over GPUs of bytes out and bytes in, without those that stay."""
    between = sent * (1 - np.eye(sent.shape[-1], dtype=np.int64))
    return np.asarray(np.maximum(between.sum(axis=-1), between.sum(axis=-2)).max(axis=-1))


def _held(sent: Ints) -> Floats:
    """What each GPU holds in the even all-to-all that sends as much as the busiest GPU does."""
    gpus = sent.shape[-1]
    return np.asarray(_busiest(sent) * gpus / (gpus - 1), np.float64)
