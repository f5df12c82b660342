"""Blocks that requests which run will need in the end. Plain functions;
``stepping/loop.py`` compiles them.
"""

from __future__ import annotations

from moesim.workload.serving.blocks import blocks_of, hits_of
from moesim.workload.serving.lists import begin_at
from moesim.workload.serving.state import (
    BLOCK_SIZE,
    BLOCKED,
    FREE,
    HELD,
    INPUT,
    KNOWN,
    OUTPUT,
    READY,
    RUN,
    State,
)


def blocks_in_the_end(state: State, request: int) -> int:
    """Blocks that ``request`` holds when it ends; the last token of its answer needs no room."""
    asked = state.requests
    return blocks_of(state, asked[INPUT, request] + asked[OUTPUT, request] - 1)


def promised(state: State, rank: int) -> int:
    """Blocks that those that run will take yet."""
    blocks = 0
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        blocks += blocks_in_the_end(state, request) - state.requests[HELD, request]
    return blocks


def has_room_for_good(state: State, request: int, rank: int) -> bool:
    """Whether there is room until the end of ``request``, beside that of all others."""
    hits, pinned = hits_of(state, request)
    free = state.ranks[FREE, rank] - pinned - promised(state, rank)
    return bool(blocks_in_the_end(state, request) - hits <= free)


def admit_for_good(state: State, request: int, rank: int) -> bool:
    """Let ``request`` run if there is room until its end; whether it does."""
    if not has_room_for_good(state, request, rank):
        state.ranks[BLOCKED, rank] += 1
        return False
    begin_at(state, request, hits_of(state, request)[0])
    return True


def rest_of(state: State, request: int) -> int:
    """Known tokens of ``request``, which waits, that it would have to compute if it began."""
    hits, _ = hits_of(state, request)
    begin = max(hits * state.numbers[BLOCK_SIZE], state.requests[READY, request])
    return int(state.requests[KNOWN, request] - begin)
