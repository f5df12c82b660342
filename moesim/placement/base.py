"""Placement: which GPU holds which expert."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.config.params import Params

Ints = NDArray[np.int64]


class Planner(Params):
    """A placement planner."""

    def place(self, experts: int, gpus: int) -> Ints:
        """The GPU int64[experts] of each expert."""
        raise NotImplementedError


def bytes_between_gpus(sent: Ints, gpu_of_expert: Ints, row_bytes: int) -> Ints:
    """Dispatch bytes int64[..., sender, receiver] for rows ``sent`` int64[..., sender, expert]."""
    gpus = sent.shape[-2]
    receives = (gpu_of_expert[:, None] == np.arange(gpus)).astype(np.int64)
    crossing: Ints = (sent @ receives) * row_bytes
    return crossing
