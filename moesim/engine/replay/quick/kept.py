"""What the slots hold, and the states of policies, as arrays over (MoE layer, GPU)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.routing import Key, Routing
from moesim.memory.slots.decisions import Rules
from moesim.memory.slots.residency import LayerCache
from moesim.runtime.compiled import record, types


class Kept(NamedTuple):
    """The caches of all works, (MoE layer, GPU).

    ``local`` int64[gpus] experts; by work, ``slots``, ``MORE_THAN_ANY`` where they hold all, and
    the policy's time ``now`` int64[works], ``resident`` bool[works, most local]; ``state`` int64 of
    all, that of a work from ``state_at`` int64[works + 1] on, nothing where it has no cache;
    ``draws`` float64 from ``draws_at`` on; ``evicted_by`` int64[works, most local], the mark of the
    activation that evicted each expert last, where that is counted.
    """

    local: Any
    slots: Any
    now: Any
    resident: Any
    state: Any
    state_at: Any
    draws: Any
    draws_at: Any
    evicted_by: Any


CHANGING = ("now", "resident", "state", "evicted_by")
"""What decisions change of it."""
_FLAT = types.int64[::1]
KEPT = record(
    Kept,
    _FLAT,
    _FLAT,
    _FLAT,
    types.boolean[:, ::1],
    _FLAT,
    _FLAT,
    types.float64[::1],
    _FLAT,
    types.int64[:, ::1],
)
MORE_THAN_ANY = 1 << 16
"""The slots of a work whose experts are all resident: more than any stack distance."""


def rules_of(case: Case) -> Rules:
    """The rules by which a layer's slots are decided."""
    return Rules(
        case.miss.most_loads(), 1, case.kernels == "serial", case.order == "resident_first",
        emptied=case.policy.shared_buffers() is not None, prefetched=False,
        loads_of=np.empty(0, np.int64), protects=case.protect == "step",
    )  # fmt: skip


def kept_of(case: Case, routing: Routing, caches: Mapping[Key, LayerCache]) -> Kept:
    """The ``caches`` of a case, by MoE layer and GPU."""
    local = np.array([len(own) for own in routing.local])
    slots = case.slots.T.flatten()  # a copy: a policy may have buffers of its own
    # an expert that was never used stands below all others, and is there all the same
    slots[slots >= np.tile(local, len(slots) // case.gpus)] = MORE_THAN_ANY
    of_work = [caches.get(divmod(work, case.gpus)) for work in range(len(slots))]
    resident = np.zeros((len(slots), int(local.max())), np.bool_)
    for work, cache in enumerate(of_work):
        if cache is not None:
            slots[work] = cache.slots
            resident[work, : len(cache.resident)] = cache.resident
    states = [np.zeros(0, np.int64) if one is None else one.state.ravel() for one in of_work]
    now, draws = np.zeros_like(slots), (np.zeros(0), np.zeros(len(slots) + 1, np.int64))
    evicted_by = np.zeros(resident.shape, np.int64)
    return Kept(
        local, slots, now, resident, np.concatenate(states), _ends(states), *draws, evicted_by
    )


def with_draws(kept: Kept, caches: Mapping[Key, LayerCache]) -> Kept:
    """``kept`` with all that has been drawn for ``caches``."""
    of_work = [caches.get(divmod(work, len(kept.local))) for work in range(len(kept.slots))]
    draws = [np.zeros(0) if one is None else one.draws for one in of_work]
    return kept._replace(draws=np.concatenate(draws), draws_at=_ends(draws))


def _ends(parts: Sequence[NDArray[Any]]) -> Ints:
    return np.cumsum([0, *(len(part) for part in parts)])
