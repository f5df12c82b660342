"""What a plan without a limit of blocks says of one with so many that none of them is short."""

from __future__ import annotations

import numpy as np

from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.state import (
    FOUND,
    FREE,
    KEPT,
    LEAST,
    LEFT,
    MEMORY,
    PREEMPTIONS,
    RUNS,
    STEPS,
    TABLE,
    Asked,
    Room,
    State,
)


def is_plenty(state: State, asked: Asked, room: Room, scheduler: RequestScheduler) -> bool:
    """Whether the steps of ``state``, those of what is ``asked`` without a limit of blocks, are
    those in ``room``, too: whoever runs, and one more, have blocks to their end, so that no rule
    finds too few; and no block is found by another request, so that none has to be kept.
    """
    blocks, steps = room.blocks, int(state.numbers[STEPS])
    if blocks is None or room.ranks > 1 or room.exchange is not None or not steps:
        return False
    if asked.contents is not None or state.numbers[PREEMPTIONS] or not scheduler.counts_requests:
        return False
    groups, all_blocks = state.table.shape
    own = np.diff(state.requests[TABLE], append=all_blocks)
    most = int(state.steps[RUNS, :steps].max()) + 1
    return most * int(groups * own.max() + 1) < blocks - scheduler.watermark_blocks(blocks)


def with_blocks(state: State, room: Room) -> State:
    """``state``, whose rank had as many blocks as it liked, where there ``is_plenty`` in ``room``.

    Blocks that hold nothing are taken first, and of those that can be found as many more as these
    fell short of until then.
    """
    assert room.blocks is not None, "so many are plenty"
    number = int(state.numbers[STEPS])
    ranks, steps = state.ranks.copy(), state.steps[:, : number + 1].copy()
    more = int(ranks[MEMORY, 0]) - room.blocks
    steps[LEFT, :number] -= more
    empty = steps[LEFT, :number] - steps[FOUND, :number]
    short = np.maximum.accumulate(np.maximum(-empty, 0))
    steps[FOUND, :number] -= short
    ranks[[FREE, MEMORY]] -= more
    ranks[KEPT] -= short[-1]
    numbers = state.numbers.copy()
    numbers[LEAST] = room.blocks
    return state._replace(ranks=ranks, steps=steps, numbers=numbers)
