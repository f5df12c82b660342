"""The states of policies that no single number ranks by, as arrays over (MoE layer, GPU)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Ints
from moesim.engine.residencies import Key
from moesim.memory.residency import LayerCache
from moesim.runtime.compiled import types


class Kept(NamedTuple):
    """The caches of all works, (MoE layer, GPU).

    ``slots`` int64[works]; ``state`` int64 of all, that of a work from ``state_at``
    int64[works + 1] on, nothing where it has no cache; ``draws`` float64 from ``draws_at`` on.
    """

    slots: Any
    state: Any
    state_at: Any
    draws: Any
    draws_at: Any


_FLAT = types.int64[::1]
_named: Any = types.NamedTuple
KEPT = _named((_FLAT, _FLAT, _FLAT, types.float64[::1], _FLAT), Kept)


def kept_of(caches: dict[Key, LayerCache], works: int, gpus: int) -> Kept:
    """The states of ``caches``, by MoE layer and GPU."""
    of_work = [caches.get(divmod(work, gpus)) for work in range(works)]
    states = [np.zeros(0, np.int64) if one is None else one.state.ravel() for one in of_work]
    slots = np.array([0 if one is None else one.slots for one in of_work])
    kept = Kept(slots, np.concatenate(states), _ends(states), np.zeros(0), np.zeros(0, np.int64))
    return with_draws(kept, caches, gpus)


def with_draws(kept: Kept, caches: dict[Key, LayerCache], gpus: int) -> Kept:
    """``kept`` with all that has been drawn for ``caches``."""
    of_work = [caches.get(divmod(work, gpus)) for work in range(len(kept.slots))]
    draws = [np.zeros(0) if one is None else one.draws for one in of_work]
    return kept._replace(draws=np.concatenate(draws), draws_at=_ends(draws))


def _ends(parts: Sequence[NDArray[Any]]) -> Ints:
    return np.cumsum([0, *(len(part) for part in parts)])
