"""An all-to-all between the GPUs of one node."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation
from moesim.hardware.roofline import NS, Floats


class AllToAll(Operation):
    """Latency + the busiest GPU's bytes, out or in, over what a GPU reaches."""

    kind: ClassVar[str] = "all_to_all"

    def price(self, matrix: ArrayLike) -> Floats:
        """See ``CostModel.all_to_all_ns``."""
        sent = np.asarray(matrix, np.int64)
        if sent.shape[-1] == 1:
            return np.zeros(sent.shape[:-2])
        between = sent * (1 - np.eye(sent.shape[-1], dtype=np.int64))
        busiest = np.maximum(between.sum(axis=-1), between.sum(axis=-2)).max(axis=-1)
        peers = self.hardware.datasheet.peers
        rate = peers.all_to_all_bytes_per_second
        return np.asarray(round(peers.latency.value) + busiest * NS / rate, np.float64)
