"""Units change places between blocks of keys and values and slots of experts. Plain functions;
``stepping/loop.py`` compiles them.
"""

from __future__ import annotations

from moesim.workload.serving.blocks import forget, take_free
from moesim.workload.serving.linked import put_behind, take_out
from moesim.workload.serving.state import (
    AFTER,
    AWAY,
    AWAY_FIRST,
    CONTENT,
    FREE,
    FREE_FIRST,
    NONE,
    OFFERED,
    UNIT,
    UNITS,
    State,
)


def make_room(state: State, rank: int, blocks: int) -> bool:
    """Whether so many ``blocks`` of ``rank`` are free, if need be once experts have given what they
    offer, unit by unit.
    """
    while blocks > state.ranks[FREE, rank] and state.ranks[OFFERED, rank] > 0:
        state.ranks[OFFERED, rank] -= 1
        shift(state, rank, -1)
    return bool(blocks <= state.ranks[FREE, rank])


def shift(state: State, rank: int, units: int) -> None:
    """``units`` go from free blocks to experts, or, below 0, from experts to blocks; as many as
    there are.
    """
    unit = state.numbers[UNIT]
    for _ in range(min(units, state.ranks[FREE, rank] // unit)):
        _give_up(state, rank, unit)
        state.ranks[UNITS, rank] -= 1
    for _ in range(min(-units, state.ranks[AWAY, rank] // unit)):
        for _ in range(unit):  # they hold nothing, and are taken first
            block = state.ranks[AWAY_FIRST, rank]
            take_out(state.blocks, state.ranks, AWAY, rank, block)
            put_behind(state.blocks, state.ranks, FREE, rank, block, NONE)
        state.ranks[UNITS, rank] += 1


def _give_up(state: State, rank: int, number: int) -> None:
    """So many free blocks leave the pool: those that cannot be found first, then those that were
    free for longest.
    """
    block, left = state.ranks[FREE_FIRST, rank], number
    while block != NONE and left > 0:
        after = state.blocks[AFTER, block]
        if state.blocks[CONTENT, block] == NONE:
            _leave(state, rank, block)
            left -= 1
        block = after
    for _ in range(left):
        _leave(state, rank, state.ranks[FREE_FIRST, rank])


def _leave(state: State, rank: int, block: int) -> None:
    take_free(state, rank, block)
    forget(state, block)
    put_behind(state.blocks, state.ranks, AWAY, rank, block, NONE)
