"""Whether requests preempt each other for ever. Plain functions; ``loop.py`` compiles them.

Under priorities two requests of one instant and one priority have no order: each may take blocks
of the other, so that none of them ever has its prompt computed. From a state all that follows is
certain until something comes, so that where one comes again, it comes for ever.
"""

from __future__ import annotations

from moesim.config.errors import InputError
from moesim.workload.serving.state import (
    AFTER,
    COMPUTED,
    CONTENT,
    DIGEST,
    ENDLESS,
    FLYING,
    FREE_FIRST,
    GIVEN,
    GONE,
    HELD,
    INPUT,
    KNOWN,
    NEXT,
    NONE,
    OUTPUT,
    PASSED,
    POWER,
    QUEUED,
    RUN,
    SHARED,
    STEPS,
    TABLE,
    TURNS,
    UNIT,
    UNSOUND,
    USERS,
    WAIT,
    State,
)

BITS = 31
LOW = (1 << BITS) - 1
MULTIPLIERS = (0x1E3779B9, 0x45D9F3B3)
"""Of the halves of a digest, whose products never overflow: not every run is compiled."""
STEPS_A_TOKEN = 10
"""Of prompts and answers: a step computes one at least, so that with more all are computed again
and again, though no state may have come again where slots and blocks change places.
"""
ENDLESS_RUN = (
    "workload: requests preempt each other for ever: of one instant and one priority, in few blocks"
    " and small chunks; write arrivals that differ, policy: fcfs, or more memory.kv"
)
UNSOUND_STEP = (
    "workload.batching.scheduler: its rule runs a request that does not wait, or more than may, or"
    " adds tokens of one that does not run, that are not due, or for which there are no blocks"
)


def look_for_cycle(state: State, went_on: bool) -> None:
    """A step has been decided; ``went_on``: it has tokens that were never computed before. Where
    none does so, and nothing is to come, a state is kept, from powers of two of steps on, until it
    comes again (Brent, 1980).
    """
    numbers = state.numbers
    if went_on or numbers[NEXT] < numbers[QUEUED] or numbers[UNIT] > 0:
        numbers[POWER] = 0
        return
    digest = digest_of(state)
    if numbers[POWER] == 0:
        numbers[DIGEST], numbers[POWER], numbers[TURNS] = digest, 1, 0
        return
    if digest == numbers[DIGEST]:
        numbers[ENDLESS] = 1
    numbers[TURNS] += 1
    if numbers[TURNS] == numbers[POWER]:
        numbers[DIGEST], numbers[POWER], numbers[TURNS] = digest, 2 * numbers[POWER], 0


def digest_of(state: State) -> int:
    """What tells apart states between two arrivals: who runs, with which tokens and blocks, and
    which blocks are free; all others wait, by priority.
    """
    value = 0
    for rank in range(state.ranks.shape[1]):
        value = mixed(value, state.ranks[WAIT, rank])
        for place in range(state.ranks[RUN, rank]):
            request = state.running[rank, place]
            value = mixed(value, request)
            for row in (COMPUTED, KNOWN, GIVEN, FLYING, SHARED, PASSED):
                value = mixed(value, state.requests[row, request])
            value = with_blocks_of(state, value, request)
        block = state.ranks[FREE_FIRST, rank]
        while block != NONE:
            value = with_content(state, value, block)
            block = state.blocks[AFTER, block]
    return value


def with_blocks_of(state: State, value: int, request: int) -> int:
    """A digest with the blocks that ``request`` holds."""
    base, held = state.requests[TABLE, request], state.requests[HELD, request]
    for group in range(state.table.shape[0]):
        for place in range(base + state.requests[GONE + group, request], base + held):
            block = state.table[group, place]
            if block != NONE:
                value = mixed(value, state.blocks[USERS, block])
                value = with_content(state, value, block)
    return value


def with_content(state: State, value: int, block: int) -> int:
    """A digest with what ``block`` holds, and whether it is the one that is found by that."""
    content = state.blocks[CONTENT, block]
    first = content != NONE and state.found[0, content] == block
    return mixed(value, 2 * content + (1 if first else 0))


def mixed(value: int, more: int) -> int:
    """A digest of a digest and a number."""
    low, high = value & LOW, value >> BITS
    low = ((low ^ more) & LOW) * MULTIPLIERS[0] + 1
    high = ((high + more) & LOW) * MULTIPLIERS[1] + 1
    low, high = (low ^ (low >> BITS)) & LOW, (high ^ (high >> BITS)) & LOW
    return int((high << BITS) | low)


def is_long(state: State) -> bool:
    """Whether ``state`` has more steps than it can have if they end."""
    asked = state.requests[INPUT] + state.requests[OUTPUT]
    return bool(state.numbers[STEPS] > STEPS_A_TOKEN * int(asked.sum()))


def never_ends(state: State) -> bool:
    """Whether the steps of ``state`` go on for ever."""
    return bool(state.numbers[ENDLESS]) or is_long(state)


def must_end(state: State) -> None:
    """InputError where the steps of ``state`` go on for ever."""
    if state.numbers[ENDLESS] == UNSOUND:
        raise InputError(UNSOUND_STEP)
    if never_ends(state):
        raise InputError(ENDLESS_RUN)


def must_be_short(state: State) -> None:
    """InputError where so do those of a ``state`` that does not know which requests will come."""
    if is_long(state):
        raise InputError(ENDLESS_RUN)
