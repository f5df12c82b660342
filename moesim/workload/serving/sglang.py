"""SGLang's scheduler: prompts first, and room for a part of the answers (SGLang 0.5.23:
``get_next_batch_to_run`` in srt/managers/scheduler.py, ``PrefillAdder`` in schedule_policy.py,
``retract_decode`` in schedule_batch.py, scheduler_components/new_token_ratio_tracker.py,
srt/mem_cache/prefill_budget.py and srt/environ.py).
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import Field

from moesim.config.amounts.sizes import GIB
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
    FULL,
    INPUT,
    KNOWN,
    NEVER,
    NONE,
    OUTPUT,
    OWN,
    READY,
    RUN,
    STAYED,
    WAIT,
    WAIT_FIRST,
    State,
)

ONE = 1 << 32
"""A ratio of 1 in whole numbers."""
FALL_STEPS, LEAST_SHARE, FIRST_RATIO = 600, 0.14, 0.7
RETRACT_STEPS, MOST_ANSWER, MOST_SORTED = 20, 4096, 128
CHUNKS = ((0, 2048), (20 * GIB, 4096), (60 * GIB, 8192), (160 * GIB, 16384))
"""Bytes of a card from which on prompts are cut into so many tokens (``handle_gpu_memory_settings``
in srt/arg_groups/memory_hook.py)."""


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

    Its share of memory is ``--mem-fraction-static``: of what is free before weights are loaded, for
    weights and cache; activations take of the rest.
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
        default=8192,
        ge=1,
        description="The most tokens of a step of prompts, which cuts the last; by default 2048 on "
        "cards of less than 20 GiB, 4096 below 60, 16384 from 160 on, else 8192.",
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

    def on_card(self, memory_bytes: int, name: str) -> Self:
        """See ``RequestScheduler``."""
        del name
        if "chunked_prefill_size" in self.model_fields_set:
            return self
        _, tokens = max(one for one in CHUNKS if one[0] <= memory_bytes)
        return self.model_copy(update={"chunked_prefill_size": tokens})

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
    """``OWN`` is one more than the ratio of answers that room is left for, 0 at the start; that
    begins anew where nobody ran or waited. ``STAYED``: who waited on after the last step.
    """
    idle = state.ranks[RUN, rank] == 0 and state.ranks[STAYED, rank] == 0
    if state.ranks[OWN, rank] == 0 or idle:
        state.ranks[OWN, rank] = knobs.first + 1
    answers = _answering(state, rank) if knobs.mixed else 0
    if not _prompts(state, knobs, rank, answers):
        _answers(state, knobs, rank)
    elif knobs.mixed and _needs(state, rank) <= state.ranks[FREE, rank]:
        _add_answers(state, rank)
    state.ranks[STAYED, rank] = state.ranks[WAIT, rank]


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


def _is_cut(state: State, request: int) -> bool:
    """Whether a part of its prompt has been computed."""
    return bool(due(state, request) > 0 and not _answers_one(state, request))


class Left(NamedTuple):
    """What a step of prompts has left: tokens of a chunk, of prompts, and of room; and how many
    answers run beside it.
    """

    chunk: int
    prompts: int
    room: int
    running: int


def _go_on(state: State, knobs: Knobs, rank: int, answers: int) -> Left:
    """A prompt that was cut goes on; it has its blocks, and takes no more than what is free."""
    chunk, prompts = knobs.chunk - answers, knobs.prompts - answers
    room, running = _room(state, rank) - answers, 0
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        running += not _is_cut(state, request)
        if _is_cut(state, request) and chunk > 0:
            rest = due(state, request)
            most = min(chunk, room + rest) if room + rest > 0 else chunk
            count = min(rest, most)
            add(state, request, count)
            chunk, prompts = chunk - _paged(state, count), prompts - _paged(state, count)
            if count == rest:
                room -= state.numbers[BLOCK_SIZE] + _answer(state, request)
    return Left(chunk, prompts, room, running)


def _prompts(state: State, knobs: Knobs, rank: int, answers: int) -> bool:
    """A prompt that was cut goes on, then others are admitted; whether there is any. Once one has
    found no room beside those that run, nobody is until one of them leaves (``batch_is_full``).
    """
    chunk, prompts, room, running = _go_on(state, knobs, rank, answers)
    some, full, size = chunk < knobs.chunk - answers, False, state.numbers[BLOCK_SIZE]
    if state.ranks[FULL, rank] == state.ranks[RUN, rank] + 1 and not some:
        return False
    state.ranks[FULL, rank] = 0
    while state.ranks[WAIT, rank] > 0 and chunk > 0 and prompts > 0:
        if state.ranks[RUN, rank] >= knobs.most_running:
            full = True
            break
        request = _next(state, knobs, rank)
        hits, pinned = hits_of(state, request)
        if not _fits(state, rank, request, (hits, pinned, room)):
            state.ranks[BLOCKED, rank] += 1
            full = True
            break
        rest = rest_of(state, request)
        count = _part(state, request, rest, chunk)
        beside = knobs.chunk == NEVER and some
        if count <= 0 or (beside and _paged(state, rest) >= prompts):
            break
        begin_at(state, request, hits)
        hold(state, request, state.requests[KNOWN, request])
        if state.requests[READY, request] == 0:  # else its prompt is computed elsewhere
            add(state, request, count)
            chunk, prompts = chunk - _paged(state, count), prompts - _paged(state, count)
            some = True
        room -= pinned * size + _paged(state, count) + size
        room -= _answer(state, request) if count == rest else 0
        if room <= 0:
            full = True
            break
    if full and running and not (knobs.mixed and some):  # a new batch forgets it
        state.ranks[FULL, rank] = state.ranks[RUN, rank] + 1
    return some


def _fits(state: State, rank: int, request: int, there: tuple[int, int, int]) -> bool:
    """Whether ``request`` is admitted: all of it takes less than the room that is left beside the
    blocks that it finds, and a block more; who would be alone always is, if its blocks are free.
    """
    hits, pinned, room = there
    size = state.numbers[BLOCK_SIZE]
    total = rest_of(state, request) + min(_answer_left(state, request), MOST_ANSWER) + size
    if state.ranks[RUN, rank] > 0 and total >= room - pinned * size:
        return False
    whole = blocks_of(state, state.requests[KNOWN, request]) - hits
    return bool(whole <= state.ranks[FREE, rank] - pinned)


def _part(state: State, request: int, rest: int, chunk: int) -> int:
    """Of the ``rest`` of a prompt what a ``chunk`` has room for: all, or whole blocks."""
    if _paged(state, rest) <= chunk:
        return rest
    size, begin = state.numbers[BLOCK_SIZE], state.requests[KNOWN, request] - rest
    return int((begin + chunk // size * size) // size * size - begin)


def _paged(state: State, tokens: int) -> int:
    """Tokens of the blocks that so many take."""
    return int(blocks_of(state, tokens) * state.numbers[BLOCK_SIZE])


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


def _answer(state: State, request: int) -> int:
    """Tokens of its whole answer that room is left for."""
    return int(min(state.requests[OUTPUT, request], MOST_ANSWER))


def _room(state: State, rank: int) -> int:
    """Tokens that are free, less what the ratio leaves for answers of those that run."""
    kept = 0
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        if not _is_cut(state, request):
            left = min(_answer_left(state, request), MOST_ANSWER)
            kept += left * (state.ranks[OWN, rank] - 1)
    return int(state.ranks[FREE, rank] * state.numbers[BLOCK_SIZE] - kept // ONE)


def _answers(state: State, knobs: Knobs, rank: int) -> None:
    """A token of each answer; where there is no room, some are retracted, unless others leave once
    the last step is seen.
    """
    answering = _answering(state, rank)
    if answering == 0:
        return
    retracted, needs = False, _needs(state, rank)
    while not make_room(state, rank, needs):
        if answering < state.ranks[RUN, rank] and not retracted:
            state.ranks[FULL, rank] = 0
            return
        if _answering(state, rank) <= 1:
            break
        _retract(state, rank)
        retracted, needs = True, _needs(state, rank)
    if retracted:
        _raise_ratio(state, rank)
    else:
        state.ranks[OWN, rank] = max(state.ranks[OWN, rank] - knobs.fall, knobs.least + 1)
    _add_answers(state, rank)


def _add_answers(state: State, rank: int) -> None:
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
