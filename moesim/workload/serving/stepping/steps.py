"""What happens between two steps: ends are seen, requests arrive, the next step is decided. Plain
functions; ``loop.py`` compiles them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from moesim.workload.serving.base import Rule
from moesim.workload.serving.blocks import hits_of, keep_content, let_go, most_held
from moesim.workload.serving.exchange import shift
from moesim.workload.serving.lists import (
    stop_running,
    stop_waiting,
    wait_last,
    wait_with_blocks,
)
from moesim.workload.serving.state import (
    AGAIN,
    ARRIVAL,
    BALANCE,
    BEGIN,
    BY_PREFIX,
    BY_PRIORITY,
    COMPUTED,
    COUNT,
    DECIDED,
    DONE,
    DRAFTS,
    DROPS,
    END,
    ENDED,
    ENDLESS,
    ENTRIES,
    FIRST_TOKEN,
    FLYING,
    FOLLOWED_BY,
    FOUND,
    FREE,
    FRESH,
    GIVEN,
    GIVES,
    HANDS_OVER,
    HELD,
    INPUT,
    KEPT,
    KNOWN,
    LEAST,
    LEFT,
    LONGEST,
    LONGEST_PROMPT,
    LOOK_AHEAD,
    LOOP,
    LOST,
    MOST,
    NEVER,
    NEXT,
    OFFERED,
    OUTPUT,
    PREEMPTIONS,
    QUEUED,
    RANK,
    RECOMPUTED,
    REJECTED,
    ROTATION,
    ROUND_ROBIN,
    RUN,
    RUNNING,
    RUNS,
    SEAT,
    SEATED,
    SEEN,
    SHOWN,
    SINCE,
    START,
    STATUS,
    STEPS,
    THINK,
    THINKING,
    TOLD,
    UNITS,
    VERIFIES,
    VISIBLE,
    VISIBLE_EACH,
    WAIT,
    WAITS,
    WHEN_SEEN,
    WHO,
    State,
)
from moesim.workload.serving.stepping.cycles import look_for_cycle

Fill = Callable[[State, Any], None]


class By(NamedTuple):
    """By what a step is decided: what fills it, as ``filled_with`` makes it, and its knobs."""

    fill: Any
    knobs: Any


WAITING_WEIGHT = 4
"""How much a waiting request counts where a running one counts 1 (vLLM's balancer)."""


def see_end(state: State) -> None:
    """The next step whose end has not been seen: what it has is on its way no longer, the tokens
    that are shown with it are there, and who has all leaves.
    """
    step = state.numbers[SEEN]
    state.numbers[SEEN] = step + 1
    begin, visible = state.steps[BEGIN, step], visible_at(state, step, state.steps[END, step])
    for entry in range(state.steps[SINCE, step], state.steps[BEGIN, step + 1]):
        request = state.log[WHO, entry]
        if entry >= begin:
            land(state, entry)
        gives = state.log[GIVES, entry] - state.log[DROPS, entry]
        if gives == 0 or state.log[SHOWN, entry] != step:
            continue
        state.requests[GIVEN, request] += gives
        if state.requests[STATUS, request] == RUNNING:
            keep_seen(state, request, entry)
        if state.requests[GIVEN, request] == state.requests[OUTPUT, request]:
            leave(state, request)
            follow(state, request, visible)


def visible_at(state: State, step: int, ended: int) -> int:
    """When clients have the tokens of a ``step`` that ``ended`` then."""
    entries = state.steps[BEGIN, step + 1] - state.steps[BEGIN, step]
    return int(ended + state.numbers[VISIBLE] + state.numbers[VISIBLE_EACH] * entries)


def land(state: State, entry: int) -> None:
    """What an ``entry`` has is on its way no longer."""
    request, gives = state.log[WHO, entry], state.log[GIVES, entry]
    if state.numbers[WHEN_SEEN] and state.requests[STATUS, request] != RUNNING:
        state.log[DROPS, entry], gives = gives, 0  # who was preempted since has lost it
    wrong = state.log[VERIFIES, entry] - max(0, gives - 1)
    state.requests[FLYING, request] -= state.log[COUNT, entry] - wrong


def keep_seen(state: State, request: int, entry: int) -> None:
    """A token of ``request`` is there, by an ``entry``: a block can be found once all that was
    computed for it has been seen, or those of its prompt.
    """
    asked = state.requests
    if state.numbers[WHEN_SEEN]:
        start, count = state.log[START, entry], state.log[COUNT, entry]
        if count > 1 or start < asked[INPUT, request]:
            keep_content(state, request, start, start + count)
        return
    flying = asked[KNOWN, request] - asked[INPUT, request] - asked[GIVEN, request]
    computed = asked[COMPUTED, request] - flying
    before = max(0, computed - 1 - state.numbers[DRAFTS])
    keep_content(state, request, before, computed)


def leave(state: State, request: int) -> None:
    """``request`` has its answer: it leaves the line in which it is, and gives its blocks back."""
    rank = state.requests[RANK, request]
    if state.requests[STATUS, request] == RUNNING:
        place = 0
        while state.running[rank, place] != request:
            place += 1
        stop_running(state, rank, place)
        if state.numbers[WHEN_SEEN]:
            keep_content(state, request, 0, state.requests[COMPUTED, request])
        if not state.numbers[HANDS_OVER]:
            let_go(state, request)
    else:
        stop_waiting(state, request)
    state.requests[STATUS, request] = ENDED
    state.numbers[DONE] += 1


def follow(state: State, request: int, instant: int) -> None:
    """What comes after the end of ``request`` at an ``instant``: in a closed loop the next one of
    all; of a session the one that follows it.
    """
    if not state.numbers[LOOP]:
        after = state.requests[FOLLOWED_BY, request]
        if after >= 0:
            arrive(state, after, instant + state.requests[THINK, after])
        return
    after = state.numbers[FRESH]
    if after < state.requests.shape[1]:
        state.numbers[FRESH] = after + 1
        arrive(state, after, instant + state.numbers[THINKING] + state.requests[THINK, after])


def arrive(state: State, request: int, instant: int) -> None:
    """``request`` will arrive at ``instant``: it takes its place among those that come."""
    state.requests[ARRIVAL, request] = instant
    place = state.numbers[QUEUED]
    while place > state.numbers[NEXT] and _comes_later(state, state.coming[place - 1], request):
        state.coming[place] = state.coming[place - 1]
        place -= 1
    state.coming[place] = request
    state.numbers[QUEUED] += 1


def _comes_later(state: State, one: int, other: int) -> bool:
    first, second = state.requests[ARRIVAL, one], state.requests[ARRIVAL, other]
    return first > second or (first == second and one > other)


def next_arrival(state: State) -> int:
    """When the next request arrives, NEVER where none is known to."""
    if state.numbers[NEXT] == state.numbers[QUEUED]:
        return NEVER
    return int(state.requests[ARRIVAL, state.coming[state.numbers[NEXT]]])


def join(state: State, now: int) -> None:
    """Requests that have arrived by ``now`` get a rank and wait there, or are rejected."""
    while next_arrival(state) <= now:
        request = state.coming[state.numbers[NEXT]]
        state.numbers[NEXT] += 1
        asked = state.requests
        if too_long(state, request):
            settle(state, request, REJECTED)
        elif asked[GIVEN, request] == asked[OUTPUT, request]:
            settle(state, request, ENDED)  # its one token was given where its prompt was computed
        elif asked[HELD, request] > 0:  # what was computed elsewhere lies there
            wait_with_blocks(state, request)
        else:
            seat(state, request)
            wait_last(state, request)


def seat(state: State, request: int) -> None:
    """``request`` gets its rank, and its place among those of that rank."""
    rank = rank_of_next(state, request)
    state.requests[RANK, request], state.requests[SEAT, request] = rank, state.ranks[SEATED, rank]
    state.ranks[SEATED, rank] += 1


def too_long(state: State, request: int) -> bool:
    """Whether ``request`` never fits."""
    tokens = state.requests[INPUT, request] + state.requests[OUTPUT, request]
    held = most_held(state, tokens - 1, state.numbers[LOOK_AHEAD])
    long = tokens > state.numbers[LONGEST] or held > state.numbers[LEAST]
    return bool(long or state.requests[INPUT, request] > state.numbers[LONGEST_PROMPT])


def settle(state: State, request: int, status: int) -> None:
    """``request`` ends as it arrives, without a step."""
    state.requests[STATUS, request] = status
    state.numbers[DONE] += 1
    follow(state, request, state.requests[ARRIVAL, request])


def rank_of_next(state: State, request: int) -> int:
    """The rank with the least load, from one that rotates; or one after the other; or that with
    most of the prompt in blocks that can be found, of equals the one with the least load.
    """
    ranks, start = state.ranks.shape[1], state.numbers[ROTATION]
    state.numbers[ROTATION] = (start + 1) % ranks
    if state.numbers[BALANCE] == ROUND_ROBIN:
        return int(start)
    best, least, most = start, NEVER, 0
    for k in range(ranks):
        rank, hits = (start + k) % ranks, 0
        if state.numbers[BALANCE] == BY_PREFIX:
            state.requests[RANK, request] = rank
            hits = hits_of(state, request)[0]
        load = WAITING_WEIGHT * state.ranks[WAIT, rank] + state.ranks[RUN, rank]
        if hits > most or (hits == most and load < least):
            best, least, most = rank, load, hits
    return int(best)


def begin_step(state: State, now: int) -> None:
    """The next step is decided ``now``; what it has follows."""
    step = state.numbers[STEPS]
    first = state.numbers[ENTRIES]
    state.steps[BEGIN, step], state.steps[SINCE, step] = first, first
    state.steps[DECIDED, step] = now


def close_step(state: State) -> int:
    """Its tokens count as computed, but for drafts that are rejected, and the tokens that follow
    from them as known, though nobody has seen them yet. How many entries it has; with none it is no
    step.
    """
    step, last = state.numbers[STEPS], state.numbers[ENTRIES]
    first = state.steps[BEGIN, step]
    asked, went_on = state.requests, False
    for entry in range(first, last):
        request, start = state.log[WHO, entry], state.log[START, entry]
        end = start + state.log[COUNT, entry]
        drafts = end - asked[KNOWN, request]
        if drafts >= 0:
            accepted = accepted_of(state, request, drafts)
            state.log[GIVES, entry], state.log[VERIFIES, entry] = 1 + accepted, drafts
            end -= drafts - accepted
            asked[FLYING, request] -= drafts - accepted
            asked[KNOWN, request] += 1 + accepted
            asked[COMPUTED, request] = end
        again = max(0, min(end, asked[MOST, request]) - start)
        state.numbers[RECOMPUTED] += again
        state.ranks[AGAIN, asked[RANK, request]] += again
        went_on = went_on or end > asked[MOST, request]
        asked[MOST, request] = max(asked[MOST, request], end)
    if last > first:
        state.numbers[STEPS] = step + 1
        state.steps[BEGIN, step + 1] = last
        for told in (LEFT, FOUND, RUNS, WAITS):
            state.steps[told, step] = 0
        state.steps[LOST, step] = state.numbers[PREEMPTIONS] - state.numbers[TOLD]
        state.numbers[TOLD] = state.numbers[PREEMPTIONS]
        for rank in range(state.ranks.shape[1]):
            state.steps[LEFT, step] += state.ranks[FREE, rank]
            state.steps[FOUND, step] += state.ranks[KEPT, rank]
            state.steps[RUNS, step] += state.ranks[RUN, rank]
            state.steps[WAITS, step] += state.ranks[WAIT, rank]
            state.units[rank, step] = state.ranks[UNITS, rank]
        if state.numbers[BY_PRIORITY]:
            look_for_cycle(state, went_on)
    return int(last - first)


def accepted_of(state: State, request: int, drafts: int) -> int:
    """Of so many ``drafts`` behind the last known token of ``request``, the first that are right in
    a row.
    """
    if drafts == 0:
        return 0
    place = state.requests[FIRST_TOKEN, request] + state.requests[KNOWN, request] - 1
    return int(min(drafts, state.accepts[place]))


class Both(NamedTuple):
    """The knobs of a scheduler's rule and of a split's."""

    rule: Any
    split: Any


def filled_with(rule: Rule, offer: Any = None, move: Any = None) -> Fill:
    """What fills a step by ``rule``. ``offer`` and ``move``: the rules of a split, whose knobs then
    come as ``Both``; None: nothing moves.
    """
    if offer is not None:
        return _with_split(rule, offer, move)

    def fill(state: Any, knobs: Any) -> None:
        for rank in range(state.ranks.shape[1]):
            rule(state, knobs, rank)

    return fill


def _with_split(rule: Rule, offer: Any, move: Any) -> Fill:
    def fill(state: Any, knobs: Any) -> None:
        for rank in range(state.ranks.shape[1]):
            state.ranks[OFFERED, rank] = offer(state, knobs.split, rank)
        entries = state.numbers[ENTRIES]
        for rank in range(state.ranks.shape[1]):
            rule(state, knobs.rule, rank)
        if state.numbers[ENTRIES] > entries:
            for rank in range(state.ranks.shape[1]):
                shift(state, rank, move(state, knobs.split, rank))

    return fill


def decide(state: State, by: By, now: int, seen: int) -> int:
    """One step, decided ``now``, when the ends of the first ``seen`` steps have been seen. How many
    entries it has; 0: nothing can be scheduled now, though perhaps at once again where a request
    had to wait.
    """
    open_step(state, now, seen)
    by.fill(state, by.knobs)
    return close_step(state)


def open_step(state: State, now: int, seen: int) -> None:
    """The next step is decided ``now``: ends are seen, and requests have come."""
    while state.numbers[SEEN] < seen:
        see_end(state)
    join(state, now)
    begin_step(state, now)


def play_all(state: State, by: By, lag: int) -> bool:
    """All steps one after the other, the clock being their number; ends are seen ``lag`` steps
    late. False where the log has no room for the next one.
    """
    requests, widest = state.requests.shape[1], state.running.size
    while state.numbers[DONE] < requests and not state.numbers[ENDLESS]:
        step, entries = state.numbers[STEPS], state.numbers[ENTRIES]
        if entries + widest > state.log.shape[1] or step + 2 > state.steps.shape[1]:
            return False
        seen, preempted = max(state.numbers[SEEN], step - lag), state.numbers[PREEMPTIONS]
        while decide(state, by, step, seen) == 0:
            if seen < step:
                seen += 1
            elif state.numbers[PREEMPTIONS] == preempted:
                return True
            preempted = state.numbers[PREEMPTIONS]
        state.steps[END, step] = step + 1
    return True
