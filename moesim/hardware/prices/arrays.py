"""The arrays that prices are made of."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

NS = 1e9


def group_sums(values: Ints, members: Ints) -> Ints:
    """The sums of consecutive groups with ``members`` entries each; an empty group sums to 0."""
    running = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    ends = np.cumsum(members)
    return np.asarray(running[ends] - running[ends - members], np.int64)
