"""What a scheduler decided, as forward passes of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.workload.schedule import Ints, Schedule
from moesim.workload.served import Served
from moesim.workload.serving.requests.requests import ServedRequests, no_tokens
from moesim.workload.serving.state import (
    BEGIN,
    COUNT,
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

PIECE = 1 << 18
"""Entries that are spelled out at once."""


def passes_of(
    served: ServedRequests, state: State, steps: tuple[int, int], gpus: int,
    at: tuple[Ints, Ints] | tuple[None, None] = (None, None),
) -> Schedule:  # fmt: skip
    """Steps first:last as forward passes on ``gpus``, of which each rank has as many neighbours,
    that take its requests in turn; ``at``: ``not_before_ns`` and ``host_ns`` of the passes.
    """
    first, last = steps
    bounds = state.steps[BEGIN, first : last + 1]
    offsets = np.append(0, np.cumsum(sums_between(state.log[COUNT], bounds)))
    tokens: Any = no_tokens(int(offsets[-1]))
    each, done = gpus // state.ranks.shape[1], 0
    for begin in range(int(bounds[0]), int(bounds[-1]), PIECE):
        entries = _entries(state, slice(begin, min(begin + PIECE, int(bounds[-1]))), gpus)
        number = int(entries[2].sum())
        served.fill(entries, tokens._make(of[done : done + number] for of in tokens))
        done += number
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


def sums_between(values: NDArray[np.int32], bounds: Ints) -> Ints:
    """The sums int64[n] of ``values`` from each of ``bounds`` int64[n + 1] to the next one."""
    begins, some = bounds[:-1], np.diff(bounds) > 0
    sums = np.zeros(len(begins), np.int64)
    sums[some] = np.add.reduceat(values[: bounds[-1]], begins[some], dtype=np.int64)
    return sums


def _entries(state: State, which: slice, gpus: int) -> tuple[Ints, ...]:
    """As ``tokens.Entry`` has them, those ``which`` of the log."""
    who, start, count, gives, drafts = state.log[:DROPS, which].astype(np.int64)
    each, gpu = gpus // state.ranks.shape[1], np.zeros_like(who)
    if gpus > 1:
        gpu = state.requests[RANK, who] * each + state.requests[SEAT, who] % each
    return who, start, count, gives, drafts, gpu, state.requests[INPUT, who]


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
