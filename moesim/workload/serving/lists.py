"""Waiting and running requests of a rank, and what a step has of them. Plain functions;
``stepping/loop.py`` compiles them.
"""

from __future__ import annotations

from moesim.workload.serving.blocks import hold, keep_content, lacking, let_go, pin
from moesim.workload.serving.linked import put_behind, take_out
from moesim.workload.serving.state import (
    AFTER,
    ARRIVAL,
    BEFORE,
    BEGIN,
    BLOCK_SIZE,
    BY_PRIORITY,
    CACHED,
    CHUNKS,
    COMPUTED,
    COUNT,
    DRAFTS,
    DROPS,
    ENDLESS,
    ENTRIES,
    FLYING,
    FREE,
    GIVEN,
    GIVES,
    HANDS_OVER,
    HELD,
    HITS,
    INPUT,
    KNOWN,
    LOG_ROWS,
    LOOK_AHEAD,
    MOST,
    NONE,
    OUTPUT,
    PREEMPTED,
    PREEMPTIONS,
    PRIORITY,
    QUERIES,
    RANK,
    READY,
    RUN,
    RUNNING,
    SHOWN,
    START,
    STATUS,
    STEPS,
    UNSOUND,
    VERIFIES,
    WAIT,
    WAIT_FIRST,
    WAIT_LAST,
    WAITING,
    WHEN_SEEN,
    WHO,
    State,
)


def sooner(state: State, one: int, other: int) -> bool:
    """Whether ``one`` goes before ``other`` by priority, then arrival, then number."""
    asked = state.requests
    if asked[PRIORITY, one] != asked[PRIORITY, other]:
        return bool(asked[PRIORITY, one] < asked[PRIORITY, other])
    if asked[ARRIVAL, one] != asked[ARRIVAL, other]:
        return bool(asked[ARRIVAL, one] < asked[ARRIVAL, other])
    return one < other


def wait_behind(state: State, request: int, before: int) -> None:
    """``request`` waits behind ``before``, NONE: in front of all."""
    put_behind(state.requests, state.ranks, WAIT, state.requests[RANK, request], request, before)
    state.requests[STATUS, request] = WAITING


def wait_last(state: State, request: int) -> None:
    """``request`` waits behind all, or by priority."""
    before = state.ranks[WAIT_LAST, state.requests[RANK, request]]
    if state.numbers[BY_PRIORITY]:
        while before != NONE and sooner(state, request, before):
            before = state.requests[BEFORE, before]
    wait_behind(state, request, before)


def wait_with_blocks(state: State, request: int) -> None:
    """``request`` waits in front, behind those that have blocks."""
    before, one = NONE, state.ranks[WAIT_FIRST, state.requests[RANK, request]]
    while one != NONE and state.requests[HELD, one] > 0:
        before, one = one, state.requests[AFTER, one]
    wait_behind(state, request, before)


def stop_waiting(state: State, request: int) -> None:
    """``request`` leaves the waiting line, wherever it stands."""
    take_out(state.requests, state.ranks, WAIT, state.requests[RANK, request], request)


def run(state: State, request: int) -> None:
    """``request``, which waits, runs, behind all that do, of which there is room for one more; else
    the run ends with an error.
    """
    if not is_waiting(state, request):
        state.numbers[ENDLESS] = UNSOUND
        return
    rank = state.requests[RANK, request]
    stop_waiting(state, request)
    state.running[rank, state.ranks[RUN, rank]] = request
    state.ranks[RUN, rank] += 1
    state.requests[STATUS, request] = RUNNING


def is_waiting(state: State, request: int) -> bool:
    """Whether ``request`` waits, and may run."""
    asked = state.requests
    if not 0 <= request < asked.shape[1] or asked[STATUS, request] != WAITING:
        return False
    return bool(state.ranks[RUN, asked[RANK, request]] < state.running.shape[1])


def stop_running(state: State, rank: int, place: int) -> None:
    """The request at ``place`` of those that run leaves."""
    last = state.ranks[RUN, rank] - 1
    for k in range(place, last):
        state.running[rank, k] = state.running[rank, k + 1]
    state.ranks[RUN, rank] = last


def due(state: State, request: int) -> int:
    """Known tokens of ``request`` that are not computed, and drafts beside the one that it decodes;
    none once its last one is on its way.
    """
    asked = state.requests
    given = asked[KNOWN, request] - asked[INPUT, request]
    if given >= asked[OUTPUT, request]:
        return 0
    rest = asked[KNOWN, request] - asked[COMPUTED, request]
    if rest == 1 and given > 0:  # drafts stand in the places of the answer's next tokens
        rest += min(state.numbers[DRAFTS], asked[OUTPUT, request] - given - 1)
    return int(rest)


def is_sound(state: State, request: int, count: int) -> bool:
    """Whether ``request`` runs, so many of its tokens are due, and there are blocks for them."""
    asked = state.requests
    if not 0 <= request < asked.shape[1] or asked[STATUS, request] != RUNNING:
        return False
    tokens = asked[COMPUTED, request] + count + state.numbers[LOOK_AHEAD]
    free = state.ranks[FREE, asked[RANK, request]]
    return bool(0 < count <= due(state, request) and lacking(state, request, tokens) <= free)


def add(state: State, request: int, count: int) -> None:
    """The step has the next ``count`` tokens of ``request``, which are due, and for which there are
    blocks; else it has none of them, and the run ends with an error.
    """
    if not is_sound(state, request, count):
        state.numbers[ENDLESS] = UNSOUND
        return
    asked, entry = state.requests, state.numbers[ENTRIES]
    start = asked[COMPUTED, request]
    hold(state, request, start + count + state.numbers[LOOK_AHEAD])
    if not state.numbers[WHEN_SEEN]:
        seen = asked[INPUT, request] + asked[GIVEN, request]
        before = max(0, start - 2 * (1 + state.numbers[DRAFTS]))  # what had not been seen by then
        keep_content(state, request, before, min(start + count, seen))
    state.log[WHO, entry], state.log[START, entry] = request, start
    state.log[COUNT, entry] = count
    state.log[GIVES, entry] = state.log[VERIFIES, entry] = state.log[DROPS, entry] = 0
    state.log[SHOWN, entry] = state.numbers[STEPS]
    asked[COMPUTED, request] = start + count
    asked[FLYING, request] += count
    asked[CHUNKS, request] += 1
    state.numbers[ENTRIES] = entry + 1


def withdraw(state: State, request: int) -> int:
    """Tokens that the step has of ``request``, no longer: how many there were. Their blocks can be
    found, as in vLLM, though they are not computed.
    """
    first, last = state.steps[BEGIN, state.numbers[STEPS]], state.numbers[ENTRIES]
    for entry in range(first, last):
        if state.log[WHO, entry] == request:
            count = state.log[COUNT, entry]
            for k in range(entry, last - 1):
                for row in range(LOG_ROWS):
                    state.log[row, k] = state.log[row, k + 1]
            state.numbers[ENTRIES] = last - 1
            state.requests[CHUNKS, request] -= 1
            state.requests[FLYING, request] -= count
            return int(count)
    return 0


def preempt(state: State, rank: int, place: int) -> int:
    """The running request at ``place`` loses its blocks and waits in front, or by priority, to be
    computed again. Returns the tokens that the step had of it.
    """
    request = state.running[rank, place]
    withdrawn = withdraw(state, request)
    stop_running(state, rank, place)
    let_go(state, request)
    state.requests[COMPUTED, request] = state.requests[READY, request]
    state.requests[PREEMPTED, request] += 1
    state.numbers[PREEMPTIONS] += 1
    if state.numbers[BY_PRIORITY]:
        wait_last(state, request)
    else:
        wait_with_blocks(state, request)
    return withdrawn


def begin_at(state: State, request: int, hits: int) -> None:
    """``request`` runs, with its first ``hits`` blocks found."""
    asked, found = state.requests, hits * state.numbers[BLOCK_SIZE]
    looks = asked[PREEMPTED, request] == 0 and asked[HELD, request] == 0
    pin(state, request, hits)
    run(state, request)
    if state.numbers[HANDS_OVER]:
        hold(state, request, asked[KNOWN, request])
    asked[CACHED, request] += max(0, found - asked[MOST, request])
    if looks:
        state.numbers[QUERIES] += asked[KNOWN, request]
        state.numbers[HITS] += found
