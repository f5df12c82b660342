"""What one slot more would have spared: misses of the expert that was evicted last."""

from __future__ import annotations

from typing import Any

from moesim.runtime.compiled import njit, types

_FLAT = types.int64[::1]


@njit(types.int64(_FLAT, types.boolean[::1], _FLAT, _FLAT), cache=True)
def count_ghosts(expert: Any, hit: Any, victim: Any, last: Any) -> int:
    """Of activations in order, the misses of the expert that left the slots last before them.

    ``last`` int64[1] is that one, -1 where it has come back, and is kept up. Under LRU these are
    the misses that one slot more had spared, or some of them where steps need many.
    """
    ghosts = 0
    for i in range(len(expert)):
        if not hit[i] and expert[i] == last[0]:
            ghosts += 1
            last[0] = -1
        if victim[i] >= 0:
            last[0] = victim[i]
    return ghosts
