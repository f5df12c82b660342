"""SGLang's scheduler: prompts first, and room for a part of the answers (SGLang 0.5.23, srt/
environ.py, and schedule_policy.py, schedule_batch.py and scheduler_components/
new_token_ratio_tracker.py in srt/managers; the order of a step in scheduler.py from memory).
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from moesim.workload.serving.base import RequestScheduler, Rule
from moesim.workload.serving.blocks import blocks_of, hits_of, hold, lacking
from moesim.workload.serving.exchange import make_room
from moesim.workload.serving.lists import add, begin_at, due, preempt, stop_waiting, wait_last
from moesim.workload.serving.room import rest_of
from moesim.workload.serving.state import (
    AFTER,
    BLOCK_SIZE,
    BLOCKED,
    COMPUTED,
    FREE,
    INPUT,
    KNOWN,
    NEVER,
    NONE,
    OUTPUT,
    OWN,
    READY,
    RUN,
    WAIT,
    WAIT_FIRST,
    State,
)

ONE = 1 << 32
"""A ratio of 1 in whole numbers."""
FALL_STEPS, LEAST_SHARE, FIRST_RATIO = 600, 0.14, 0.7
RETRACT_STEPS, MOST_ANSWER, MOST_SORTED = 20, 4096, 128


class Knobs(NamedTuple):
    """What the rule goes by; ratios in parts of ``ONE``."""

    most_running: int
    prompts: int
    chunk: int
    mixed: int
    longest_prefix: int
    first: int
    least: int
    fall: int


class Sglang(RequestScheduler):
    """SGLang: a step of prompts where one can be admitted, else a token of each answer.

    Its share of memory is ``--mem-fraction-static`` (from memory of model_runner.py): of what is
    free before weights are loaded, for weights and cache; activations take of the rest.
    """

    shares_without_passes: ClassVar[bool] = True
    counts_requests: ClassVar[bool] = True
    usual_block: ClassVar[int] = 1
    kind: Literal["sglang"] = "sglang"
    max_prefill_tokens: int = Field(
        default=16384,
        ge=1,
        description="The most prompt tokens of a step, but one may be longer.",
    )
    chunked_prefill_size: int | None = Field(
        default=8192, ge=1, description="The most tokens of a step of prompts, which cuts the last."
    )
    enable_mixed_chunk: bool = Field(
        default=False, description="Steps of prompts hold a token of each answer, too."
    )
    schedule_policy: Literal["fcfs", "lpm"] = Field(
        default="fcfs",
        description="Who is admitted first: who came first, or who finds the longest prefix "
        "(with up to 128 that wait).",
    )
    schedule_conservativeness: float = Field(
        default=1.0, ge=0, le=100, description="More of it leaves more room for answers."
    )

    @property
    def most_tokens(self) -> int:
        """See ``RequestScheduler``."""
        return max(self.chunked_prefill_size or self.max_prefill_tokens, self.most_running)

    def rule(self) -> Rule:
        """See ``RequestScheduler``."""
        return schedule

    def knobs(self, blocks: int) -> Knobs:
        """See ``RequestScheduler``."""
        del blocks
        first = min(int(FIRST_RATIO * self.schedule_conservativeness * ONE), ONE)
        least = int(first * LEAST_SHARE)
        return Knobs(
            most_running=self.most_running,
            prompts=self.max_prefill_tokens,
            chunk=self.chunked_prefill_size or NEVER,
            mixed=int(self.enable_mixed_chunk),
            longest_prefix=int(self.schedule_policy == "lpm"),
            first=first,
            least=least,
            fall=(first - least) // FALL_STEPS,
        )


def schedule(state: State, knobs: Knobs, rank: int) -> None:
    """``OWN`` is one more than the ratio of answers that room is left for, 0 at the start."""
    if state.ranks[OWN, rank] == 0:
        state.ranks[OWN, rank] = knobs.first + 1
    answers = _answering(state, rank) if knobs.mixed else 0
    if not _prompts(state, knobs, rank, answers):
        _answers(state, rank)
        state.ranks[OWN, rank] = max(state.ranks[OWN, rank] - knobs.fall, knobs.least + 1)
    elif knobs.mixed:
        _answers(state, rank)


def _answers_one(state: State, request: int) -> bool:
    """Whether ``request`` has computed its prompt, and what was lost, and has a token due."""
    return (
        due(state, request) == 1
        and state.requests[COMPUTED, request] >= state.requests[INPUT, request]
    )


def _answering(state: State, rank: int) -> int:
    count = 0
    for place in range(state.ranks[RUN, rank]):
        count += _answers_one(state, state.running[rank, place])
    return count


def _prompts(state: State, knobs: Knobs, rank: int, answers: int) -> bool:
    """A prompt that was cut goes on, then others are admitted; whether there is any."""
    chunk, prompts, some = knobs.chunk - answers, knobs.prompts - answers, False
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        count = min(due(state, request), chunk)
        if count > 0 and not _answers_one(state, request):
            add(state, request, count)
            chunk, prompts, some = chunk - count, prompts - count, True
    room = _room(state, rank)
    while state.ranks[WAIT, rank] > 0 and chunk > 0 and prompts > 0:
        if state.ranks[RUN, rank] >= knobs.most_running:
            break
        request = _next(state, knobs, rank)
        rest = rest_of(state, request)
        total = rest + min(_answer_left(state, request), MOST_ANSWER)
        alone = state.ranks[RUN, rank] == 0
        if not alone and (total >= room or (some and rest > prompts)):
            state.ranks[BLOCKED, rank] += total >= room
            break
        hits, pinned = hits_of(state, request)
        whole = blocks_of(state, state.requests[KNOWN, request]) - hits
        if whole > state.ranks[FREE, rank] - pinned:
            state.ranks[BLOCKED, rank] += 1
            break
        begin_at(state, request, hits)
        hold(state, request, state.requests[KNOWN, request])
        room -= total
        if state.requests[READY, request] == 0:  # else its prompt is computed elsewhere
            count = min(due(state, request), chunk)
            add(state, request, count)
            chunk, prompts, some = chunk - count, prompts - count, True
    return some


def _next(state: State, knobs: Knobs, rank: int) -> int:
    """Who is admitted next: the first, or the first of those with the most blocks found."""
    found = state.ranks[WAIT_FIRST, rank]
    if knobs.longest_prefix and state.ranks[WAIT, rank] <= MOST_SORTED:
        best, request = -1, found
        while request != NONE:
            hits, _ = hits_of(state, request)
            if hits > best:
                best, found = hits, request
            request = state.requests[AFTER, request]
    return int(found)


def _answer_left(state: State, request: int) -> int:
    """Tokens of its answer that ``request`` has yet to give."""
    asked = state.requests
    return int(asked[OUTPUT, request] - (asked[KNOWN, request] - asked[INPUT, request]))


def _room(state: State, rank: int) -> int:
    """Tokens that are free, less what the ratio leaves for answers of those that run."""
    room = state.ranks[FREE, rank] * state.numbers[BLOCK_SIZE]
    for place in range(state.ranks[RUN, rank]):
        left = min(_answer_left(state, state.running[rank, place]), MOST_ANSWER)
        room -= left * (state.ranks[OWN, rank] - 1) // ONE
    return int(room)


def _answers(state: State, rank: int) -> None:
    """A token of each answer; where there is no room, some are retracted."""
    retracted, needs = False, _needs(state, rank)
    while not make_room(state, rank, needs):
        if _answering(state, rank) <= 1:
            break
        _retract(state, rank)
        retracted, needs = True, _needs(state, rank)
    if retracted:
        _raise_ratio(state, rank)
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        reach = state.requests[COMPUTED, request] + 1
        if (
            _answers_one(state, request)
            and lacking(state, request, reach) <= state.ranks[FREE, rank]
        ):
            add(state, request, 1)


def _needs(state: State, rank: int) -> int:
    """Blocks for one more token of each answer."""
    blocks = 0
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        if _answers_one(state, request):
            blocks += lacking(state, request, state.requests[COMPUTED, request] + 1)
    return blocks


def _retract(state: State, rank: int) -> None:
    """Who has the shortest answer, of equal ones the longest prompt, then runs last, waits again,
    behind all.
    """
    found = NONE
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        if _answers_one(state, request) and (
            found == NONE or _goes_sooner(state, request, state.running[rank, found])
        ):
            found = place
    request = state.running[rank, found]
    preempt(state, rank, found)
    stop_waiting(state, request)
    wait_last(state, request)


def _goes_sooner(state: State, one: int, other: int) -> bool:
    """Whether ``one`` is retracted before ``other``, which stands before it."""
    asked = state.requests
    mine, its = (
        asked[KNOWN, one] - asked[INPUT, one],
        asked[KNOWN, other] - asked[INPUT, other],
    )
    return bool(mine < its or (mine == its and asked[INPUT, one] >= asked[INPUT, other]))


def _raise_ratio(state: State, rank: int) -> None:
    """What the answers that are left have given, and 20 tokens more each, over all of theirs and
    one.
    """
    given, whole = 0, 1
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        given += state.requests[KNOWN, request] - state.requests[INPUT, request] + RETRACT_STEPS
        whole += state.requests[OUTPUT, request]
    state.ranks[OWN, rank] = min(given * ONE // whole, ONE) + 1
