"""What a scheduler decided, as forward passes of tokens."""

from __future__ import annotations

import numpy as np

from moesim.workload.schedule import Ints, Schedule
from moesim.workload.served import Served
from moesim.workload.serving.requests.requests import ServedRequests
from moesim.workload.serving.state import (
    BEGIN,
    DRAFTS,
    DROPS,
    ENTRIES,
    INPUT,
    RANK,
    SEAT,
    SHOWN,
    SINCE,
    STEPS,
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
    who, start, count, gives, drafts = state.log[:DROPS, bounds[0] : bounds[-1]]
    ends = np.cumsum(count)
    each, gpu = gpus // state.ranks.shape[1], np.zeros_like(who)
    if gpus > 1:
        gpu = state.requests[RANK, who] * each + state.requests[SEAT, who] % each
    tokens = served.tokens((who, start, count, gives, drafts, gpu, state.requests[INPUT, who]))
    offsets = np.concatenate(([0], ends))[bounds - bounds[0]]
    given = np.repeat(state.units[:, first:last].T, each, axis=1)
    return Schedule.serving(
        offsets,
        (tokens.row, tokens.gpu, tokens.request),
        Served(tokens.position, tokens.decodes, tokens.outputs),
        at[0],
        at[1],
        tokens.kept if state.numbers[DRAFTS] else None,
        given if state.numbers[UNIT] else None,
    )


def shown_with(state: State, first: int, last: int) -> Ints:
    """The columns of the log of which tokens are there with the ends of steps first:last."""
    log = state.log[:, state.steps[SINCE, first] : state.steps[BEGIN, last]]
    return log[:, (log[SHOWN] >= first) & (log[SHOWN] < last)]


def same_passes(one: State, other: State) -> bool:
    """Whether the steps of two states, of the same requests, are the same passes."""
    steps, entries = int(one.numbers[STEPS]), int(one.numbers[ENTRIES])
    numbers = [STEPS, ENTRIES, DRAFTS, UNIT]
    if (one.numbers[numbers] != other.numbers[numbers]).any():
        return False
    parts = (
        (state.steps[BEGIN, :steps], state.units[:, :steps], state.requests[[RANK, SEAT]],
         state.log[:, :entries])
        for state in (one, other)
    )  # fmt: skip
    return all(map(np.array_equal, *parts))
