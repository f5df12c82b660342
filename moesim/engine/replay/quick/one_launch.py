"""Which runs have one launch a layer and pass, of experts with a row each, whose copies wait for
nothing but one another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.marks import is_marked
from moesim.engine.replay.spans import IDS
from moesim.runtime.compiled import njit, types
from moesim.trace.routing import NO_EXPERT

ALIKE, FEWER, ALL = range(3)
"""Rows choose an expert twice; they do not, but not all that they may; or k different ones."""


@njit(types.int64(IDS, types.int64[::1], types.boolean[:, ::1]), cache=True, _nrt=False)
def _choose_apart(ids: Any, rows: Any, near: Any) -> int:
    """What ``rows`` choose in each layer; ``near`` bool[k - 1, layers x k]: whether a choice and
    the one so many places (and 1) behind it are of one layer.
    """
    choices, alike, fewer = ids.shape[1] * ids.shape[2], False, False
    for row in rows:
        line = ids[row].reshape(choices)
        for i in range(choices):
            fewer |= line[i] == NO_EXPERT
        for other in range(len(near)):
            of_layer = near[other]
            for i in range(choices - other - 1):
                same = (line[i] == line[i + other + 1]) & (line[i] != NO_EXPERT)
                alike |= same & of_layer[i]
    return ALIKE if alike else FEWER if fewer else ALL


def chosen_apart(ids: NDArray[np.uint16], rows: Ints) -> int:
    """What ``rows`` of ``ids`` uint16[rows, MoE layers, k] choose in each layer: ALL, FEWER, or
    ALIKE.
    """
    _, layers, top_k = ids.shape
    place, other = np.arange(layers * top_k) % top_k, np.arange(1, top_k)
    return int(_choose_apart(ids, rows, place < top_k - other[:, None]))


def _slots_hold_rows(case: Case) -> bool:
    """Whether each pool of ``case`` holds what a row needs of it."""
    if case.policy.scope == "global":
        return int(case.slots.sum()) >= case.trace.top_k
    held = [len(case.local_experts(gpu)) for gpu in range(case.gpus)]
    needed = np.minimum(case.trace.top_k, held)[:, None]
    return bool((case.slots >= needed).all())


def launches_once(case: Case) -> bool:
    """Whether passes of ``case``, which is quick, have a row each, and each layer of it at most one
    launch on each GPU, whose copies wait for nothing but one another, if rows choose apart.
    """
    return (
        case.kernels != "serial"
        and case.order == "id"
        and case.protect == "step"
        and case.policy.shared_buffers() is None
        and not is_marked(case)
        and not case.model.has_encoder
        and not case.schedule.grows
        and (_slots_hold_rows(case) or not case.miss.loads)
        and bool((np.diff(case.schedule.offsets) == 1).all())
    )


def may_have_one_launch(case: Case) -> bool:
    """Whether passes of ``case``, which is quick, ``have_one_launch`` if rows choose so."""
    return case.gpus == 1 and not case.placement.has_replicas and launches_once(case)


def chosen_by(case: Case) -> int:
    """What the rows of ``case`` choose."""
    return chosen_apart(case.trace.expert_ids, case.schedule.routing_rows)


def have_one_launch(case: Case) -> bool:
    """Whether each pass of ``case``, which is quick, has one row, and each layer of it one launch
    of experts that differ, behind copies that wait for nothing but one another.
    """
    return may_have_one_launch(case) and chosen_by(case) == ALL
