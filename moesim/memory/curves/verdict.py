"""What limits a cache: first uses, its size, or its policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

LIMITS = ("first uses", "working set", "policy")
MOST = 0.9
"""Share of what slots can save that counts as reached."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """LRU's misses in parts, int64[experts] with 1, 2, ... slots.

    ``compulsory``: the first use of each expert; no cache saves them. ``capacity``: what MIN misses
    beyond; only more slots save them. ``replacement``: what LRU misses beyond MIN; a better policy
    might save some. Below the most experts of a step MIN is no bound, and ``replacement`` may be
    negative. (Sugumar and Abraham 1993: OPT separates capacity from replacement.)
    """

    compulsory: Ints
    capacity: Ints
    replacement: Ints

    @classmethod
    def of(cls, lru: Ints, best: Ints) -> Verdict:
        """From the misses of LRU and of MIN with 1, 2, ... slots, up to all experts."""
        compulsory = np.full_like(best, best[-1])
        return cls(compulsory, best - best[-1], lru - best)

    @property
    def limits(self) -> list[str]:
        """The largest part by size, one of LIMITS; of equals the first."""
        parts = np.stack([self.compulsory, self.capacity, self.replacement])
        return [LIMITS[part] for part in parts.argmax(axis=0)]

    @property
    def compulsory_share(self) -> NDArray[np.float64]:
        """Part of MIN's misses that are first uses, by size; NaN where there are none."""
        misses = self.compulsory + self.capacity
        share = np.full(len(misses), np.nan)
        np.divide(self.compulsory, misses, out=share, where=misses > 0)
        return share


def slots_for(misses: Ints, share: float = MOST) -> int:
    """The fewest slots that save ``share`` of what all slots save over one.

    ``misses`` int64[experts] with 1, 2, ... slots.
    """
    gain = misses[0] - misses
    return int(np.argmax(gain >= share * gain[-1])) + 1
