"""Blocks of a rank's KV cache: taken from the queue of free ones, found by their content.

The rules are those of vLLM V1 (0.33, v1/core/block_pool.py, kv_cache_manager.py,
kv_cache_coordinator.py, single_type_kv_cache_manager.py): a freed block can be found until it is
taken. It joins the queue's end, so that the one used longest ago goes first, or, if nobody can find
it, the queue's head. Layers may be in groups that share the pool: a request has blocks of its own
in each, for the same tokens, but for those that are behind a window.
Plain functions; ``stepping/loop.py`` compiles them.
"""

from __future__ import annotations

from moesim.workload.serving.linked import put_behind, take_out
from moesim.workload.serving.state import (
    BLOCK_SIZE,
    COMPUTED,
    CONTENT,
    FLYING,
    FREE,
    FREE_FIRST,
    FREE_LAST,
    GONE,
    HELD,
    INPUT,
    KEPT,
    KNOWN,
    LONGEST,
    MOST_FLYING,
    NEVER,
    NONE,
    RANK,
    SAME_AFTER,
    SAME_BEFORE,
    SHARED,
    TABLE,
    USERS,
    WINDOW,
    State,
)


def blocks_of(state: State, tokens: int) -> int:
    """Blocks that hold ``tokens``, in one group of layers."""
    return int(-(-tokens // state.numbers[BLOCK_SIZE]))


def most_held(state: State, tokens: int, ahead: int) -> int:
    """Blocks of a request of so many ``tokens``, with room for some ``ahead`` of each step, that
    all groups of layers hold at most.
    """
    blocks = 0
    for group in range(state.table.shape[0]):
        blocks += _most_of(state, group, tokens + ahead, ahead)
    return blocks


def _most_of(state: State, group: int, tokens: int, ahead: int) -> int:
    """Of the blocks of so many ``tokens`` those that a ``group`` of layers holds at most: of its
    window and what is in flight, and one more, as a window may begin inside a block.
    """
    numbers, kept = state.numbers, state.numbers[LONGEST]
    if numbers[WINDOW + group] == NEVER:
        return blocks_of(state, tokens)
    if numbers[MOST_FLYING] < kept:
        kept = min(kept, numbers[WINDOW + group] - 1 + numbers[MOST_FLYING])
    return min(blocks_of(state, tokens), blocks_of(state, kept + ahead) + 1)


def lacking(state: State, request: int, tokens: int) -> int:
    """Blocks that ``request`` has to take before it holds ``tokens``."""
    held = state.requests[HELD, request]
    if tokens <= held * state.numbers[BLOCK_SIZE]:  # mostly, and to divide takes long
        return 0
    blocks, needs = 0, blocks_of(state, tokens)
    for group in range(state.table.shape[0]):
        blocks += max(0, needs - max(held, state.requests[GONE + group, request]))
    return int(blocks)


def takes(state: State, request: int, tokens: int, hits: int) -> int:
    """Blocks that ``request``, which waits, takes beside ``hits`` to hold ``tokens``."""
    has, blocks = hits + state.requests[HELD, request], 0
    begin, needs = begin_of(state, request, hits), blocks_of(state, tokens)
    for group in range(state.table.shape[0]):
        blocks += max(0, needs - max(has, _behind(state, group, begin)))
    return int(blocks)


def takes_at_most(state: State, request: int, tokens: int, hits: int) -> int:
    """The same, but of layers with a window no more than they hold at once."""
    has, blocks = hits + state.requests[HELD, request], 0
    begin = begin_of(state, request, hits)
    for group in range(state.table.shape[0]):
        most = _most_of(state, group, tokens, 0)
        blocks += max(0, most - max(has, _behind(state, group, begin)))
    return int(blocks)


def begin_of(state: State, request: int, hits: int) -> int:
    """Tokens of ``request`` that need not be computed where its first ``hits`` blocks are found."""
    return int(max(hits * state.numbers[BLOCK_SIZE], state.requests[COMPUTED, request]))


def _behind(state: State, group: int, tokens: int) -> int:
    """Blocks that no token behind the first ``tokens`` sees in a ``group`` of layers."""
    seen = state.numbers[WINDOW + group] - 1
    return int(max(0, tokens - seen) // state.numbers[BLOCK_SIZE])


def hold(state: State, request: int, tokens: int) -> None:
    """Take blocks until ``request`` holds ``tokens``; there are as many."""
    base, held = state.requests[TABLE, request], state.requests[HELD, request]
    if tokens <= held * state.numbers[BLOCK_SIZE]:
        return
    rank, needs = state.requests[RANK, request], blocks_of(state, tokens)
    for group in range(state.table.shape[0]):
        first = max(held, state.requests[GONE + group, request])
        for place in range(base + first, base + needs):
            state.table[group, place] = _take(state, rank)
    state.requests[HELD, request] = needs


def let_go(state: State, request: int) -> None:
    """Give all of ``request`` back, its last block first; they can be found again."""
    for group in range(state.table.shape[0]):
        _give_back(state, request, group, state.requests[HELD, request])
        state.requests[GONE + group, request] = 0
    state.requests[HELD, request] = 0


def let_go_behind(state: State, request: int) -> None:
    """Give those of ``request`` back that are behind the window of all that may yet be read."""
    settled = state.requests[COMPUTED, request] - state.requests[FLYING, request]
    for group in range(state.table.shape[0]):
        if state.numbers[WINDOW + group] != NEVER:
            gone = min(_behind(state, group, settled), state.requests[HELD, request])
            _give_back(state, request, group, gone)
            state.requests[GONE + group, request] = max(gone, state.requests[GONE + group, request])


def _give_back(state: State, request: int, group: int, until: int) -> None:
    """Its first blocks in a ``group`` of layers, as far as there are, the last one first."""
    base, rank = state.requests[TABLE, request], state.requests[RANK, request]
    gone = state.requests[GONE + group, request]
    for place in range(base + until - 1, base + gone - 1, -1):
        block = state.table[group, place]
        state.blocks[USERS, block] -= 1
        if state.blocks[USERS, block] == 0:
            _queue(state, rank, block)


def keep_content(state: State, request: int, before: int, after: int) -> None:
    """Blocks that are full once tokens ``before`` to ``after`` of ``request`` are computed can be
    found from now on.
    """
    base, size = state.requests[TABLE, request], state.numbers[BLOCK_SIZE]
    last = (state.requests[HELD, request] - 1) * size
    if last <= before and after < last + size:  # in its last block, which is not full
        return
    for group in range(state.table.shape[0]):
        for number in range(before // size, after // size):
            content, block = state.contents[base + number], state.table[group, base + number]
            if content != NONE and _is_kept(state, request, group, number):
                _keep(state, block, _of_group(state, group, content))


def _is_kept(state: State, request: int, group: int, number: int) -> bool:
    """Whether block ``number`` of ``request`` may be found in a ``group`` of layers; of a window
    only where one like it may begin: at the end of its prompt, or of what the layers that keep all
    found of it (vLLM's ``prefix_cache_retention_interval`` of 0).
    """
    window = state.numbers[WINDOW + group]
    if window == NEVER:
        return True
    end = (state.requests[INPUT, request] - 1) // state.numbers[BLOCK_SIZE]
    shared, reach = state.requests[SHARED, request], blocks_of(state, window - 1)
    there = number >= state.requests[GONE + group, request]
    return bool(there and (end - reach <= number < end or shared - reach <= number < shared))


def _of_group(state: State, group: int, content: int) -> int:
    """The number of a ``content`` in a ``group`` of layers."""
    return int(content + group * (state.found.shape[1] // state.table.shape[0]))


def _keep(state: State, block: int, content: int) -> None:
    """``block`` can be found by its ``content``, behind all that have the same."""
    if state.blocks[CONTENT, block] != NONE:
        return
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
    and how many of those that it takes are free. A rank finds its own blocks only, and one that
    holds some none.
    """
    hits, free = _prefix_of(state, request)[0], 0
    base, rank = state.requests[TABLE, request], state.requests[RANK, request]
    begin = begin_of(state, request, hits)
    for group in range(state.table.shape[0]):
        for number in range(_behind(state, group, begin), hits):
            block = find(state, rank, group, state.contents[base + number])
            free += state.blocks[USERS, block] == 0
    return hits, free


def _prefix_of(state: State, request: int) -> tuple[int, int]:
    """Leading full blocks of ``request`` that all groups of layers find, and those that some do.
    Where one with a window finds less, all are asked again up to there (vLLM's
    ``HybridKVCacheCoordinator``).
    """
    base, known = state.requests[TABLE, request], state.requests[KNOWN, request]
    if state.requests[HELD, request] > 0 or state.contents[base] == NONE:
        return 0, 0
    hits, number = (known - 1) // state.numbers[BLOCK_SIZE], 0
    while number < hits and _is_found(state, request, NEVER, number):
        number += 1
    left, most = number, 0
    hits = left + 1
    while left < hits:
        hits = left
        for group in range(state.table.shape[0]):
            window = state.numbers[WINDOW + group]
            if window != NEVER:
                left = _in_window(state, request, window, left)
            most = max(most, number if window == NEVER else left)
    return int(hits), int(most)


def _in_window(state: State, request: int, window: int, most: int) -> int:
    """Of at most so many leading blocks of ``request`` those behind which it can begin in layers
    with a ``window``: all that the next token sees there can be found.
    """
    row, reach = 0, max(1, blocks_of(state, window - 1))
    for number in range(most - 1, -1, -1):
        row = row + 1 if _is_found(state, request, window, number) else 0
        if row == reach:
            return int(number + row)
    return int(row)


def _is_found(state: State, request: int, window: int, number: int) -> bool:
    """Whether all groups of layers with a ``window`` find block ``number`` of ``request``."""
    rank, place = state.requests[RANK, request], state.requests[TABLE, request] + number
    for group in range(state.table.shape[0]):
        is_of_it = state.numbers[WINDOW + group] == window
        if is_of_it and find(state, rank, group, state.contents[place]) == NONE:
            return False
    return True


def find(state: State, rank: int, group: int, content: int) -> int:
    """The first block of ``rank`` with ``content`` in a ``group`` of layers, or NONE."""
    if content == NONE:
        return NONE
    number = state.blocks.shape[1] // state.ranks.shape[1]
    block = state.found[0, _of_group(state, group, content)]
    while block != NONE and block // number != rank:
        block = state.blocks[SAME_AFTER, block]
    return int(block)


def pin(state: State, request: int, hits: int) -> None:
    """``request`` holds its first ``hits`` blocks, which can be found, as far as it sees them, and
    begins behind them.
    """
    base, rank = state.requests[TABLE, request], state.requests[RANK, request]
    begin = begin_of(state, request, hits)
    if state.table.shape[0] > 1:
        found, most = _prefix_of(state, request)
        state.requests[SHARED, request] = most if most > found else 0
    for group in range(state.table.shape[0]):
        gone = _behind(state, group, begin)
        state.requests[GONE + group, request] = gone
        for number in range(gone, hits):
            block = find(state, rank, group, state.contents[base + number])
            if state.blocks[USERS, block] == 0:
                take_free(state, rank, block)
            state.blocks[USERS, block] += 1
            state.table[group, base + number] = block
    if hits > 0:
        state.requests[HELD, request], state.requests[COMPUTED, request] = hits, begin


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
