"""What a scheduler decided, as forward passes of tokens."""

from __future__ import annotations

import numpy as np

from moesim.workload.schedule import Ints, Schedule
from moesim.workload.served import Served
from moesim.workload.serving.requests import ServedRequests
from moesim.workload.serving.state import (
    BEGIN,
    DRAFTS,
    INPUT,
    RANK,
    SEAT,
    UNIT,
    State,
)


def passes_of(
    served: ServedRequests, state: State, steps: tuple[int, int], gpus: int,
    at: tuple[Ints, Ints] | tuple[None, None] = (None, None),
) -> Schedule:  # fmt: skip
    """Steps first:last as forward passes on ``gpus``, of which each rank has as many neighbours,
    that take its requests in turn; ``at``: ``not_before_ns`` and ``host_ns`` of the passes.
    """
    first, last = steps
    bounds = state.steps[BEGIN, first : last + 1]
    who, start, count, gives, drafts = state.log[:, bounds[0] : bounds[-1]]
    ends = np.cumsum(count)
    entry = np.repeat(np.arange(len(who)), count)
    position = start[entry] + np.arange(len(entry)) - (ends - count)[entry]
    request = who[entry]
    each = gpus // state.ranks.shape[1]
    gpu = state.requests[RANK, who] * each + state.requests[SEAT, who] % each
    decodes = (count == 1 + drafts) & (gives > 0) & (start >= state.requests[INPUT, who])
    behind = (ends - 1)[entry] - np.arange(len(entry))  # in the entry
    outputs = (gives > 0)[entry] & (behind <= drafts[entry])
    kept = None
    if state.numbers[DRAFTS]:
        rejected = np.where(gives > 0, drafts + 1 - gives, 0)
        kept = behind >= rejected[entry]
    offsets = np.concatenate(([0], ends))[bounds - bounds[0]]
    given = np.repeat(state.units[:, first:last].T, each, axis=1)
    return Schedule.serving(
        offsets,
        (served.rows(request, position), gpu[entry], request),
        Served(position, decodes[entry], outputs),
        at[0],
        at[1],
        kept,
        given if state.numbers[UNIT] else None,
    )
