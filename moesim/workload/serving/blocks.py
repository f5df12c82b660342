"""Blocks of a rank's KV cache: taken from the queue of free ones, found by their content.

The rules are those of vLLM V1 (0.33, v1/core/block_pool.py, kv_cache_manager.py,
kv_cache_coordinator.py, single_type_kv_cache_manager.py): a freed block can be found until it is
taken. It joins the queue's end, so that the one used longest ago goes first, or, if nobody can find
it, the queue's head. Layers may be in groups that share the pool: a request has blocks of its own
in each, for the same tokens, but for those that are behind a window; of a state, which all tokens
make, one at the end of a step (``MambaManager``, ``mamba_cache_mode`` of "align").
Plain functions; ``stepping/loop.py`` compiles them.
"""

from __future__ import annotations

from moesim.workload.serving.linked import put_behind, take_out
from moesim.workload.serving.state import (
    ALIGN,
    BLOCK_SIZE,
    COMPUTED,
    CONTENT,
    FLYING,
    FREE,
    FREE_FIRST,
    FREE_LAST,
    GIVEN,
    GONE,
    HELD,
    INPUT,
    INSIDE,
    KEEPS,
    KEPT,
    KNOWN,
    LONGEST,
    LOOK_AHEAD,
    MOST_FLYING,
    NEVER,
    NO_STATES,
    NONE,
    PASSED,
    RANK,
    SAME_AFTER,
    SAME_BEFORE,
    SHARED,
    SPARE,
    STATE,
    STATES,
    TABLE,
    TIMES,
    TOKENS,
    TURN,
    USERS,
    WHEN_SEEN,
    WINDOW,
    State,
)


def blocks_of(state: State, tokens: int) -> int:
    """Blocks that hold ``tokens``, of the smallest ones."""
    return int(-(-tokens // state.numbers[BLOCK_SIZE]))


def _in_group(state: State, group: int, blocks: int) -> int:
    """The blocks of a ``group`` of layers that hold what so many of the smallest ones do."""
    times = state.groups[TIMES, group]
    return int(blocks if times == 1 else -(-blocks // times))  # to divide takes long


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
    window and what is in flight, and one more, as a window may begin inside a block; of states that
    before a step and that behind it, and perhaps one inside.
    """
    numbers, kept, keeps = state.numbers, state.numbers[LONGEST], state.groups[KEEPS, group]
    needs = _in_group(state, group, blocks_of(state, tokens))
    if keeps == SPARE:
        return 1
    if keeps == STATE:
        return int(min(needs, 2 + (numbers[STATES] == INSIDE)))
    if state.groups[WINDOW, group] == NEVER:
        return needs
    if numbers[MOST_FLYING] < kept:
        kept = min(kept, state.groups[WINDOW, group] - 1 + numbers[MOST_FLYING])
    return min(needs, _in_group(state, group, blocks_of(state, kept + ahead)) + 1)


def lacking(state: State, request: int, tokens: int) -> int:
    """Blocks that ``request`` has to take before it holds ``tokens``."""
    if _holds(state, request, tokens):  # mostly, and to divide takes long
        return 0
    return _lacking(state, request, tokens)


def _lacking(state: State, request: int, tokens: int) -> int:
    begin, blocks = state.requests[COMPUTED, request], 0
    for group in range(state.table.shape[0]):
        gone = state.requests[GONE + group, request]
        blocks += _lacks(state, request, group, (begin, tokens, 0), gone)
    return int(blocks)


def _holds(state: State, request: int, tokens: int) -> bool:
    size, ahead = state.numbers[BLOCK_SIZE], state.numbers[LOOK_AHEAD]
    held, passed = state.requests[HELD, request], state.requests[PASSED, request]
    return bool(tokens <= held * size and tokens - ahead <= passed * size)


def _lacks(state: State, request: int, group: int, reach: tuple[int, int, int], behind: int) -> int:
    """Blocks of a ``group`` that ``request`` lacks; ``reach``: the token that it goes on from, the
    ones that it is to hold, and the blocks that are found; the first ``behind`` are not seen.
    """
    begin, tokens, hits = reach
    held, keeps = hits + state.requests[HELD, request], state.groups[KEEPS, group]
    if keeps == SPARE:
        return int(state.requests[HELD, request] == 0)
    if keeps == STATE:  # it has none of tokens that may be rejected
        end = tokens - state.numbers[LOOK_AHEAD]
        more = blocks_of(state, end) - hits - state.requests[PASSED, request]
        return int(max(0, min(more, 1 + keeps_inside(state, request, (begin, end), end))))
    needs = _in_group(state, group, blocks_of(state, tokens))
    return int(max(0, needs - max(_in_group(state, group, held), behind)))


def keeps_inside(state: State, request: int, part: tuple[int, int], known: int) -> bool:
    """Whether a step that has a ``part`` of ``request``, its end among it, leaves a state inside,
    too: that at the last full block of its ``known`` tokens (vLLM's prefill checkpoint).
    """
    (begin, end), size = part, state.numbers[BLOCK_SIZE]
    if state.numbers[STATES] != INSIDE or begin % size or end < prompt_end(state, request):
        return False
    at = (known - 1) // size * size
    return bool(begin + size <= at and -(-end // size) - 2 > (begin - 1) // size)


def prompt_end(state: State, request: int) -> int:
    """Tokens of ``request`` that are computed as a prompt: with those of its answer, if it was
    preempted.
    """
    asked = state.requests
    return int(max(asked[INPUT, request], asked[INPUT, request] + asked[GIVEN, request] - 1))


def takes(state: State, request: int, tokens: int, hits: int) -> int:
    """Blocks that ``request``, which waits, takes beside ``hits`` to hold ``tokens``."""
    begin, blocks = begin_of(state, request, hits), 0
    for group in range(state.table.shape[0]):
        behind = _behind(state, group, begin)
        blocks += _lacks(state, request, group, (begin, tokens, hits), behind)
    return int(blocks)


def takes_at_most(state: State, request: int, tokens: int, hits: int) -> int:
    """The same, but of layers with a window no more than they hold at once."""
    begin, blocks = begin_of(state, request, hits), 0
    for group in range(state.table.shape[0]):
        behind = _behind(state, group, begin)
        if state.groups[KEEPS, group] == TOKENS:
            held = _in_group(state, group, hits + state.requests[HELD, request])
            blocks += max(0, _most_of(state, group, tokens, 0) - max(held, behind))
        else:
            reach = (begin, tokens + state.numbers[LOOK_AHEAD], hits)
            blocks += _lacks(state, request, group, reach, behind)
    return int(blocks)


def begin_of(state: State, request: int, hits: int) -> int:
    """Tokens of ``request`` that need not be computed where its first ``hits`` blocks are found."""
    return int(max(hits * state.numbers[BLOCK_SIZE], state.requests[COMPUTED, request]))


def _behind(state: State, group: int, tokens: int) -> int:
    """Blocks that no token behind the first ``tokens`` sees in a ``group`` of layers."""
    seen = state.groups[WINDOW, group] - 1
    size = state.numbers[BLOCK_SIZE] * state.groups[TIMES, group]
    return int(max(0, tokens - seen) // size)


def hold(state: State, request: int, tokens: int) -> None:
    """Take blocks until ``request`` holds ``tokens``; there are as many."""
    if not _holds(state, request, tokens):
        _hold(state, request, tokens)


def _hold(state: State, request: int, tokens: int) -> None:
    asked = state.requests
    held, passed = asked[HELD, request], asked[PASSED, request]
    needs, end = blocks_of(state, tokens), tokens - state.numbers[LOOK_AHEAD]
    for group in range(state.table.shape[0]):
        keeps = state.groups[KEEPS, group]
        if keeps == TOKENS:
            first = max(_in_group(state, group, held), asked[GONE + group, request])
            _take_all(state, request, group, first, _in_group(state, group, needs))
        elif keeps == STATE:
            _take_states(state, request, group, end)
        elif state.table[group, asked[TABLE, request]] == NONE:
            _take_all(state, request, group, 0, 1)
    asked[HELD, request] = max(held, needs)
    asked[PASSED, request] = max(passed, blocks_of(state, end))


def _take_all(state: State, request: int, group: int, first: int, last: int) -> None:
    base, rank = state.requests[TABLE, request], state.requests[RANK, request]
    for place in range(base + first, base + last):
        state.table[group, place] = _take(state, rank)


def _take_states(state: State, request: int, group: int, end: int) -> None:
    """A block where the step ends, and perhaps one for a state inside; none between."""
    base, passed = state.requests[TABLE, request], state.requests[PASSED, request]
    needs = blocks_of(state, end)
    if needs <= passed:
        return
    inside = keeps_inside(state, request, (state.requests[COMPUTED, request], end), end)
    first = max(passed, needs - 1 - inside)
    state.table[group, base + passed : base + first] = NONE
    _take_all(state, request, group, first, needs)


def let_go(state: State, request: int) -> None:
    """Give all of ``request`` back, its last block first; they can be found again."""
    held = state.requests[HELD, request]
    for group in range(state.table.shape[0]):
        _give_back(state, request, group, _in_group(state, group, held))
        state.requests[GONE + group, request] = 0
    state.requests[HELD, request] = state.requests[PASSED, request] = 0


def let_go_behind(state: State, request: int) -> None:
    """Give those of ``request`` back that are behind the window of all that may yet be read."""
    asked, size = state.requests, state.numbers[BLOCK_SIZE]
    settled = asked[COMPUTED, request] - asked[FLYING, request]
    for group in range(state.table.shape[0]):
        window, gone = state.groups[WINDOW, group], asked[GONE + group, request]
        if settled - window + 1 >= (gone + 1) * size * state.groups[TIMES, group]:
            held = _in_group(state, group, asked[HELD, request])
            until = min(_behind(state, group, settled), held)
            _give_back(state, request, group, until)
            asked[GONE + group, request] = max(until, gone)


def _give_back(state: State, request: int, group: int, until: int) -> None:
    """Its first blocks in a ``group`` of layers, as far as there are, the last one first."""
    base, rank = state.requests[TABLE, request], state.requests[RANK, request]
    gone = state.requests[GONE + group, request]
    for place in range(base + until - 1, base + gone - 1, -1):
        block = state.table[group, place]
        state.table[group, place] = NONE
        if block != NONE:
            state.blocks[USERS, block] -= 1
            if state.blocks[USERS, block] == 0:
                _queue(state, rank, block)


def keep_content(state: State, request: int, before: int, after: int) -> None:
    """Blocks that are full once tokens ``before`` to ``after`` of ``request`` are computed can be
    found from now on.
    """
    size = state.numbers[BLOCK_SIZE]
    last = (state.requests[HELD, request] - 1) * size
    if last > before or after >= last + size:  # else in its last block, which is not full
        _keep_content(state, request, before, after)


def _keep_content(state: State, request: int, before: int, after: int) -> None:
    base, size = state.requests[TABLE, request], state.numbers[BLOCK_SIZE]
    align = state.numbers[ALIGN]
    first, last = before // (size * align) * align, after // (size * align) * align
    for group in range(state.table.shape[0]):
        times = state.groups[TIMES, group]
        for number in range(first // times, last // times):
            content = state.contents[base + (number + 1) * times - 1]
            block = state.table[group, base + number]
            if min(content, block) == NONE or not _is_kept(state, request, group, number):
                continue
            if not state.numbers[WHEN_SEEN] or not _joins(state, request, group, base + number):
                _keep(state, block, _of_group(state, group, content))


def _joins(state: State, request: int, group: int, place: int) -> bool:
    """Whether a block of ``request`` with the same content can be found: it holds that one, and not
    its own (SGLang's ``checkpoint_into_tree``).
    """
    own, rank = state.table[group, place], state.requests[RANK, request]
    other = find(state, rank, group, state.contents[place])
    if other in (NONE, own):
        return False
    if state.blocks[USERS, other] == 0:
        take_free(state, rank, other)
    state.blocks[USERS, other] += 1
    state.blocks[USERS, own] = 0
    state.table[group, place] = other
    _queue(state, rank, own)
    return True


def _is_kept(state: State, request: int, group: int, number: int) -> bool:
    """Whether block ``number`` of ``request`` may be found in a ``group`` of layers; of a window
    or a state only where one like it may begin: at the end of its prompt, or of what the layers
    that keep all found of it (vLLM's ``prefix_cache_retention_interval`` of 0).
    """
    window, times = state.groups[WINDOW, group], state.groups[TIMES, group]
    if state.groups[KEEPS, group] == SPARE:
        return False
    if window == NEVER:
        return True
    align = state.numbers[ALIGN]
    whole = (state.requests[INPUT, request] - 1) // (state.numbers[BLOCK_SIZE] * align) * align
    end, shared = whole // times, state.requests[SHARED, request] // times
    reach = _in_group(state, group, blocks_of(state, window - 1))
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
    if state.numbers[STATES] != NO_STATES:
        state.found[2, content] = state.numbers[TURN]
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
    rank, begin = state.requests[RANK, request], begin_of(state, request, hits)
    for group in range(state.table.shape[0]):
        for number in range(_behind(state, group, begin), _found_in(state, group, hits)):
            block = find(state, rank, group, _content(state, request, group, number))
            free += state.blocks[USERS, block] == 0
    return hits, free


def _found_in(state: State, group: int, hits: int) -> int:
    """Blocks of a ``group`` of layers that so many ``hits`` are."""
    return 0 if state.groups[KEEPS, group] == SPARE else _in_group(state, group, hits)


def _content(state: State, request: int, group: int, number: int) -> int:
    """The content of block ``number`` of ``request`` in a ``group`` of layers: of its last part."""
    part = (number + 1) * state.groups[TIMES, group] - 1
    return int(state.contents[state.requests[TABLE, request] + part])


def waits_for_state(state: State, request: int, hits: int) -> bool:
    """Whether the state that ``request`` would begin with is computed in this very step."""
    if hits == 0:
        return False
    for group in range(state.table.shape[0]):
        if state.groups[KEEPS, group] == STATE:
            content = _of_group(state, group, _content(state, request, group, hits - 1))
            if state.found[2, content] == state.numbers[TURN]:
                return True
    return False


def junction_of(state: State, request: int) -> int:
    """Up to which block ``request``, which waits, finds a prefix in some groups of layers that not
    all have; 0: all have the same.
    """
    if state.table.shape[0] == 1:
        return 0
    found, most = _prefix_of(state, request)
    return most if most > found else 0


def _prefix_of(state: State, request: int) -> tuple[int, int]:
    """Leading full blocks of ``request`` that all groups of layers find, and those that some do.
    Where one with a window finds less, all are asked again up to there (vLLM's
    ``HybridKVCacheCoordinator``).
    """
    base, known = state.requests[TABLE, request], state.requests[KNOWN, request]
    if state.requests[HELD, request] > 0 or state.contents[base] == NONE:
        return 0, 0
    align = state.numbers[ALIGN]
    hits, number = (known - 1) // state.numbers[BLOCK_SIZE], 0
    while number < hits and _is_found(state, request, NEVER, number):
        number += 1
    number = number // align * align
    left, most = number, 0
    hits = left + 1
    while left < hits:
        hits = left
        for group in range(state.table.shape[0]):
            window = state.groups[WINDOW, group]
            if window != NEVER:
                left = _in_window(state, request, group, left)
            most = max(most, number if window == NEVER else left)
    return int(hits), int(most)


def _in_window(state: State, request: int, group: int, most: int) -> int:
    """Of at most so many leading blocks of ``request`` those behind which it can begin in layers
    with the window of a ``group``: all that the next token sees there can be found.
    """
    window, times = state.groups[WINDOW, group], state.groups[TIMES, group]
    align = state.numbers[ALIGN] // times
    row, reach = 0, max(1, _in_group(state, group, blocks_of(state, window - 1)))
    for number in range(most // times - 1, -1, -1):
        begins = row > 0 or (number + 1) % align == 0
        found = begins and _is_found(state, request, window, (number + 1) * times - 1)
        row = row + 1 if found else 0
        if row == reach:
            return int((number + row) * times)
    return int(row * times)


def _is_found(state: State, request: int, window: int, number: int) -> bool:
    """Whether all groups of layers with a ``window`` find what ends with the smallest block
    ``number`` of ``request``, as far as blocks of theirs end there.
    """
    rank, place = state.requests[RANK, request], state.requests[TABLE, request] + number
    for group in range(state.table.shape[0]):
        is_of_it = state.groups[WINDOW, group] == window and state.groups[KEEPS, group] != SPARE
        is_of_it = is_of_it and (number + 1) % state.groups[TIMES, group] == 0
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
    asked, base = state.requests, state.requests[TABLE, request]
    rank, begin = asked[RANK, request], begin_of(state, request, hits)
    asked[SHARED, request] = junction_of(state, request)
    for group in range(state.table.shape[0]):
        gone, found = _behind(state, group, begin), _found_in(state, group, hits)
        asked[GONE + group, request] = gone
        for number in range(gone, found):
            block = find(state, rank, group, _content(state, request, group, number))
            if state.blocks[USERS, block] == 0:
                take_free(state, rank, block)
            state.blocks[USERS, block] += 1
            state.table[group, base + number] = block
    if hits > 0:
        asked[HELD, request] = asked[PASSED, request] = hits
        asked[COMPUTED, request] = begin


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
