"""How many of the first entries of a series belong to its start and not to its steady state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BATCH = 5


def mser5(series: Floats) -> int:
    """Entries to leave out at the start of ``series`` by MSER-5: those without which the mean of
    the rest has the least squared standard error, in steps of five and at most half of them.

    Source: White, Cobb and Spratt, "A comparison of five steady-state truncation heuristics for
    simulation", Winter Simulation Conference 2000.
    """
    count = len(series) // BATCH
    if not count:
        return 0
    means = series[: count * BATCH].reshape(count, BATCH).mean(axis=1)
    centred = (means - np.median(means))[::-1]
    left = np.arange(1, count + 1)
    squares = (centred**2).cumsum() - centred.cumsum() ** 2 / left
    error = (squares / left**2)[::-1]
    return BATCH * int(error[: count // 2 + 1].argmin())
