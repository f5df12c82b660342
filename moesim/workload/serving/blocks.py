"""Blocks of a rank's KV cache: taken from the queue of free ones, found by their content.

The rules are those of vLLM V1 (0.33, v1/core/block_pool.py, kv_cache_manager.py): a freed block can
be found until it is taken. It joins the queue's end, so that the one used longest ago goes first,
or, if nobody can find it, the queue's head. Plain functions; ``stepping/loop.py`` compiles them.
"""

from __future__ import annotations

from moesim.workload.serving.linked import put_behind, take_out
from moesim.workload.serving.state import (
    BLOCK_SIZE,
    COMPUTED,
    CONTENT,
    FREE,
    FREE_FIRST,
    FREE_LAST,
    HELD,
    KEPT,
    KNOWN,
    NONE,
    RANK,
    SAME_AFTER,
    SAME_BEFORE,
    TABLE,
    USERS,
    State,
)


def blocks_of(state: State, tokens: int) -> int:
    """Blocks that hold ``tokens``."""
    return int(-(-tokens // state.numbers[BLOCK_SIZE]))


def lacking(state: State, request: int, tokens: int) -> int:
    """Blocks that ``request`` has to take before it holds ``tokens``."""
    held = state.requests[HELD, request]
    if tokens <= held * state.numbers[BLOCK_SIZE]:  # mostly, and to divide takes long
        return 0
    return int(blocks_of(state, tokens) - held)


def hold(state: State, request: int, tokens: int) -> None:
    """Take blocks until ``request`` holds ``tokens``; there are as many."""
    base, held = state.requests[TABLE, request], state.requests[HELD, request]
    while held * state.numbers[BLOCK_SIZE] < tokens:
        state.table[base + held] = _take(state, state.requests[RANK, request])
        held += 1
    state.requests[HELD, request] = held


def let_go(state: State, request: int) -> None:
    """Give all of ``request`` back, its last block first; they can be found again."""
    base, rank = state.requests[TABLE, request], state.requests[RANK, request]
    for place in range(base + state.requests[HELD, request] - 1, base - 1, -1):
        block = state.table[place]
        state.blocks[USERS, block] -= 1
        if state.blocks[USERS, block] == 0:
            _queue(state, rank, block)
    state.requests[HELD, request] = 0


def keep_content(state: State, request: int, before: int, after: int) -> None:
    """Blocks that are full once tokens ``before`` to ``after`` of ``request`` are computed can be
    found from now on.
    """
    base, size = state.requests[TABLE, request], state.numbers[BLOCK_SIZE]
    last = (state.requests[HELD, request] - 1) * size
    if last <= before and after < last + size:  # in its last block, which is not full
        return
    for place in range(base + before // size, base + after // size):
        content, block = state.contents[place], state.table[place]
        if content != NONE and state.blocks[CONTENT, block] == NONE:
            same = state.found[1, content]
            state.blocks[CONTENT, block], state.blocks[SAME_BEFORE, block] = content, same
            if same == NONE:
                state.found[0, content] = block
            else:
                state.blocks[SAME_AFTER, same] = block
            state.found[1, content] = block


def forget(state: State, block: int) -> None:
    """``block`` can no longer be found."""
    content = state.blocks[CONTENT, block]
    if content == NONE:
        return
    before, after = state.blocks[SAME_BEFORE, block], state.blocks[SAME_AFTER, block]
    if before == NONE:
        state.found[0, content] = after
    else:
        state.blocks[SAME_AFTER, before] = after
    if after == NONE:
        state.found[1, content] = before
    else:
        state.blocks[SAME_BEFORE, after] = before
    state.blocks[CONTENT, block] = state.blocks[SAME_BEFORE, block] = NONE
    state.blocks[SAME_AFTER, block] = NONE


def hits_of(state: State, request: int) -> tuple[int, int]:
    """Leading full blocks of ``request`` that can be found, but for that of its last known token,
    and how many of them are free. A rank finds its own blocks only, and one that holds some none.
    """
    base, known = state.requests[TABLE, request], state.requests[KNOWN, request]
    rank, hits, free = state.requests[RANK, request], 0, 0
    if state.requests[HELD, request] > 0:
        return 0, 0
    for place in range(base, base + (known - 1) // state.numbers[BLOCK_SIZE]):
        block = find(state, rank, state.contents[place])
        if block == NONE:
            break
        hits += 1
        free += state.blocks[USERS, block] == 0
    return hits, free


def find(state: State, rank: int, content: int) -> int:
    """The first block of ``rank`` with ``content``, or NONE."""
    if content == NONE:
        return NONE
    number = state.blocks.shape[1] // state.ranks.shape[1]
    block = state.found[0, content]
    while block != NONE and block // number != rank:
        block = state.blocks[SAME_AFTER, block]
    return int(block)


def pin(state: State, request: int, hits: int) -> None:
    """``request`` holds its first ``hits`` blocks, which can be found, and begins behind them."""
    if hits == 0:
        return
    base, rank = state.requests[TABLE, request], state.requests[RANK, request]
    for place in range(base, base + hits):
        block = find(state, rank, state.contents[place])
        if state.blocks[USERS, block] == 0:
            take_free(state, rank, block)
        state.blocks[USERS, block] += 1
        state.table[place] = block
    state.requests[HELD, request] = hits
    state.requests[COMPUTED, request] = max(
        state.requests[COMPUTED, request], hits * state.numbers[BLOCK_SIZE]
    )


def _take(state: State, rank: int) -> int:
    """The block that has been free for longest."""
    block = state.ranks[FREE_FIRST, rank]
    take_free(state, rank, block)
    forget(state, block)
    state.blocks[USERS, block] = 1
    return int(block)


def _queue(state: State, rank: int, block: int) -> None:
    found = state.blocks[CONTENT, block] != NONE
    before = state.ranks[FREE_LAST, rank] if found else NONE
    put_behind(state.blocks, state.ranks, FREE, rank, block, before)
    state.ranks[KEPT, rank] += found


def take_free(state: State, rank: int, block: int) -> None:
    """``block`` leaves the queue of free ones."""
    take_out(state.blocks, state.ranks, FREE, rank, block)
    state.ranks[KEPT, rank] -= state.blocks[CONTENT, block] != NONE
