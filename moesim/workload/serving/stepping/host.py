"""When a step is decided and when it starts, by what the host takes. Plain functions; ``loop.py``
compiles them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from moesim.workload.serving.state import (
    BEGIN,
    DECIDED,
    END,
    NEVER,
    PREEMPTIONS,
    SEEN,
    STEPS,
    Ints,
    State,
)
from moesim.workload.serving.stepping.steps import By, decide, next_arrival

# numbers of a host
DUE, SEES, ENTRIES, TRIED, FROM, IDLE, WAITS, IDLED, START, TAKES, LAG = range(11)
HOST_NUMBERS = 11
"""``DUE``: when it decides next, NEVER where nothing is known to come, and how many ends it has
seen (``SEES``) then. ``ENTRIES`` of the last step, preemptions when it last ``TRIED``. ``WAITS``:
it waits for an arrival, ``FROM`` then on; ``IDLE``: for one that had not come, ``IDLED`` before.
``START``: the instant before which the step does not start, and so long before it the host works on
it (``TAKES``). ``LAG``: ends are seen so many steps late."""


class HostTimes(NamedTuple):
    """What the host takes before and after a step, in ns, of which ``schedule_ns`` and
    ``output_ns`` once, the others for each request in it. ``frontend_ns``: of a request from the
    client to the scheduler, and of a token back, which nothing else waits for; ``tokenize_ns`` and,
    of each token, ``per_prompt_token_ns``: until a prompt on its way there is tokens.
    """

    schedule_ns: int = 0
    per_request_ns: int = 0
    output_ns: int = 0
    per_request_out_ns: int = 0
    frontend_ns: int = 0
    tokenize_ns: int = 0
    per_prompt_token_ns: int = 0

    @property
    def travels(self) -> bool:
        """Whether requests are on the way for a while."""
        return bool(self.frontend_ns or self.tokenize_ns or self.per_prompt_token_ns)


NO_TIME = HostTimes()


def way_to_scheduler(times: HostTimes, prompts: Ints) -> Ints:
    """Of requests with ``prompts`` of so many tokens, from the client; without any, none is made
    tokens.
    """
    tokenized = times.tokenize_ns * (prompts > 0) + times.per_prompt_token_ns * prompts
    return times.frontend_ns + tokenized


def before_step(times: HostTimes, entries: int) -> int:
    """From the decision to the first launch."""
    return times.schedule_ns + times.per_request_ns * entries


def after_step(times: HostTimes, entries: int) -> int:
    """From the end to when it is seen."""
    return times.output_ns + times.per_request_out_ns * entries


def entries_of(state: State, step: int) -> int:
    """How many entries a ``step`` has."""
    return int(state.steps[BEGIN, step + 1] - state.steps[BEGIN, step])


def seen_at(state: State, step: int, times: HostTimes) -> int:
    """When the host has seen the end of ``step``."""
    return int(state.steps[END, step]) + after_step(times, entries_of(state, step))


def turn(state: State, by: By, host: Any, times: HostTimes) -> int:
    """Decide the next step as it is due, ``by`` its rules: how many entries it has; 0: there is
    nothing, and what is due is the next turn.
    """
    host[WAITS], step = 0, state.numbers[STEPS]
    entries = decide(state, by, host[DUE], host[SEES])
    preempted = state.numbers[PREEMPTIONS]
    again, host[TRIED] = preempted > host[TRIED], preempted
    if entries == 0:
        wait(state, host, times, again)
        return 0
    host[ENTRIES] = entries
    before = state.steps[END, step - 1] if step > 0 else 0
    host[START] = max(before, host[DUE] + before_step(times, entries))
    since = host[DUE] if host[IDLE] or step == 0 else before
    host[TAKES] = host[START] - since
    return int(entries)


def wait(state: State, host: Any, times: HostTimes, again: bool) -> None:
    """Nothing could be scheduled: the next end that is not seen is waited for, or, if all are, the
    next arrival; ``again``: a request had to go, and it may be tried at once.
    """
    seen = state.numbers[SEEN]
    if seen < state.numbers[STEPS]:
        host[DUE] = max(host[DUE], seen_at(state, seen, times))
        host[SEES], host[IDLE] = seen + 1, 0
    elif not again:
        host[WAITS], host[FROM], host[IDLED] = 1, host[DUE], host[IDLE]
        wait_for(host, next_arrival(state))


def wait_for(host: Any, instant: int) -> None:
    """The host, for which nothing is to do, waits for what comes at an ``instant``."""
    host[DUE] = max(host[FROM], instant)
    host[IDLE] = max(host[IDLED], int(instant > host[FROM]))


def end_step(state: State, host: Any, times: HostTimes, end: int) -> None:
    """The step that was decided has ended on every GPU at ``end``: when the next one is due, and
    how many ends have been seen then.
    """
    step = state.numbers[STEPS]
    state.steps[END, step - 1] = end
    seen = max(state.numbers[SEEN], step - host[LAG])
    due = seen_at(state, seen - 1, times) if seen > 0 else 0
    decided = state.steps[DECIDED, step - 1] + before_step(times, host[ENTRIES]) * host[LAG]
    host[DUE], host[SEES] = max(due, decided), seen
    host[IDLE] = host[WAITS] = 0
    host[TRIED] = state.numbers[PREEMPTIONS]


def is_over(host: Any) -> bool:
    """Whether nothing is known to come."""
    return bool(host[DUE] == NEVER)
