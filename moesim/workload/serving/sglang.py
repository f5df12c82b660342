"""SGLang's scheduler: prompts first, and room for a part of the answers (SGLang 0.5.23:
``get_next_batch_to_run`` in srt/managers/scheduler.py, ``PrefillAdder`` in schedule_policy.py,
``retract_decode`` in schedule_batch.py, scheduler_components/new_token_ratio_tracker.py,
srt/mem_cache/prefill_budget.py and srt/environ.py).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field

from moesim.config.amounts.sizes import GIB
from moesim.workload.serving.base import RequestScheduler, Rule
from moesim.workload.serving.blocks import blocks_of, hits_of, keep_content, lacking
from moesim.workload.serving.exchange import make_room
from moesim.workload.serving.lists import (
    add,
    begin_at,
    due,
    preempt,
    stop_waiting,
    wait_behind,
    wait_last,
)
from moesim.workload.serving.room import rest_of
from moesim.workload.serving.state import (
    AFTER,
    BEFORE,
    BLOCK_SIZE,
    BLOCKED,
    COMPUTED,
    CUT,
    ENTRIES,
    FREE,
    FULL,
    GIVEN,
    HELD,
    INPUT,
    KNOWN,
    MATCHED,
    NEVER,
    NONE,
    OUTPUT,
    OWN,
    RUN,
    TABLE,
    WAIT,
    WAIT_FIRST,
    WHO,
    State,
)

ONE = 1 << 60
"""A ratio of 1 in whole numbers, in which doubles down to a 128th are exact."""
FALL_STEPS, LEAST_SHARE, FIRST_RATIO = 600, 0.14, 0.7
RETRACT_STEPS, MOST_ANSWER, MOST_SORTED = 20, 4096, 128
IN_BATCH = 32
"""Tokens up to which a prefix that is found counts as none, and from which one among those that
wait does (``IN_BATCH_PREFIX_CACHING_CHECK_THRESHOLD``)."""
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


def _whole_prompts(value: Any) -> Any:
    """SGLang's ``--chunked-prefill-size -1``: prompts are not cut."""
    return None if type(value) is int and value == -1 else value


class Sglang(RequestScheduler):
    """SGLang: a step of prompts where one can be admitted, else a token of each answer.

    Its share of memory is ``--mem-fraction-static``: of what is free before weights are loaded, for
    weights and cache; activations take of the rest.
    """

    shares_without_passes: ClassVar[bool] = True
    counts_requests: ClassVar[bool] = True
    keeps_when_seen: ClassVar[bool] = True
    usual_block: ClassVar[int] = 1
    kind: Literal["sglang"] = "sglang"
    max_prefill_tokens: int = Field(
        default=16384,
        ge=1,
        description="The most prompt tokens of a step, but one may be longer.",
    )
    chunked_prefill_size: Annotated[int | None, BeforeValidator(_whole_prompts)] = Field(
        default=8192,
        ge=1,
        description="The most tokens of a step of prompts, which cuts the last; by default 2048 on "
        "cards of less than 20 GiB, 4096 below 60, 16384 from 160 on, else 8192. null, as SGLang's "
        "-1: none is cut.",
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
        first = min(FIRST_RATIO * self.schedule_conservativeness, 1.0)
        return Knobs(
            most_running=self.most_running,
            prompts=self.max_prefill_tokens,
            chunk=self.chunked_prefill_size or NEVER,
            mixed=int(self.enable_mixed_chunk),
            longest_prefix=int(self.schedule_policy == "lpm"),
            first=int(first * ONE),
            least=int(first * LEAST_SHARE * ONE),
        )


def schedule(state: State, knobs: Knobs, rank: int) -> None:
    """``OWN`` is one more than the ratio of answers that room is left for, 0: it begins anew, as
    where nobody runs or waits. ``CUT``: one more than the request whose prompt goes on, 0: none.
    """
    if state.ranks[OWN, rank] == 0:
        state.ranks[OWN, rank] = knobs.first + 1
    cut = state.ranks[CUT, rank] - 1
    if cut >= 0:
        keep_content(state, cut, 0, state.requests[COMPUTED, cut])
    answers = _answering(state, rank) if knobs.mixed else 0
    first = state.numbers[ENTRIES]
    if not _prompts(state, knobs, rank, answers):
        _answers(state, knobs, rank)
    elif knobs.mixed:
        _mix(state, rank, first)
    if state.ranks[RUN, rank] == 0 and state.ranks[WAIT, rank] == 0:
        state.ranks[OWN, rank] = 0


def _is_cut(state: State, rank: int, request: int) -> bool:
    """Whether a part of its prompt has been computed."""
    return bool(state.ranks[CUT, rank] == request + 1)


def _answers_one(state: State, rank: int, request: int) -> bool:
    """Whether ``request`` has a token of its answer due."""
    return due(state, request) > 0 and not _is_cut(state, rank, request)


def _answering(state: State, rank: int) -> int:
    """Who runs and is not cut, those among it whose last token is on its way."""
    return int(state.ranks[RUN, rank] - (state.ranks[CUT, rank] > 0))


class Left(NamedTuple):
    """What a step of prompts has left: tokens of a chunk, of prompts, and of room."""

    chunk: int
    prompts: int
    room: int


def _go_on(state: State, knobs: Knobs, rank: int, answers: int) -> Left:
    """A prompt that was cut goes on, up to the room that is left, if there is any."""
    chunk, prompts = knobs.chunk - answers, knobs.prompts - answers
    left = _free(state, rank) - answers - _kept(state, rank)
    room, request = math.ceil(left), state.ranks[CUT, rank] - 1
    if request >= 0:
        rest, most = due(state, request), min(chunk, int(left)) if left >= 1 else chunk
        count = min(rest, most, _most_held(state, rank, request))
        if count > 0:
            add(state, request, count)
            paged = _paged(state, count)
            chunk, prompts = chunk - paged, prompts - paged
            room -= paged + state.numbers[BLOCK_SIZE]
            if count == rest:
                room -= _answer(state, request)
                state.ranks[CUT, rank] = 0
    return Left(chunk, prompts, room)


def _most_held(state: State, rank: int, request: int) -> int:
    """Tokens more of ``request`` that its blocks and the free ones hold."""
    held = state.requests[HELD, request] + state.ranks[FREE, rank]
    return int(held * state.numbers[BLOCK_SIZE] - state.requests[COMPUTED, request])


def _prompts(state: State, knobs: Knobs, rank: int, answers: int) -> bool:
    """A prompt that was cut goes on, then others are admitted; whether there is any. Once one has
    found no room beside those that run, nobody is until one of them leaves (``batch_is_full``).
    """
    running, goes_on = _answering(state, rank), state.ranks[CUT, rank] > 0
    first = state.numbers[ENTRIES]
    left = _go_on(state, knobs, rank, answers)
    if state.ranks[FULL, rank] == state.ranks[RUN, rank] + 1 and not goes_on:
        return False
    state.ranks[FULL, rank] = 0
    if knobs.longest_prefix and (goes_on or state.ranks[RUN, rank] < knobs.most_running):
        _sort_by_prefix(state, rank)
    full = _admit(state, knobs, rank, left, first)
    if full and running:
        state.ranks[FULL, rank] = state.ranks[RUN, rank] + 1
    return bool(state.numbers[ENTRIES] > first)


def _admit(state: State, knobs: Knobs, rank: int, left: Left, first: int) -> bool:
    """Who waits is admitted, in order, as long as something is ``left``; whether one found no room.
    The step has prompts from entry ``first`` on.
    """
    (chunk, prompts, room), size = left, state.numbers[BLOCK_SIZE]
    while state.ranks[WAIT, rank] > 0 and chunk > 0 and prompts > 0:
        if state.ranks[RUN, rank] >= knobs.most_running:
            return True
        request = state.ranks[WAIT_FIRST, rank]
        hits, pinned = hits_of(state, request)
        if not _fits(state, rank, request, (hits, pinned, room)):
            state.ranks[BLOCKED, rank] += 1
            return True
        rest = rest_of(state, request)
        count = _part(state, request, rest, chunk)
        beside = knobs.chunk == NEVER and state.numbers[ENTRIES] > first
        if count <= 0 or (beside and _paged(state, rest) >= prompts):
            return False
        begin_at(state, request, hits)
        add(state, request, count)
        paged = _paged(state, count)
        chunk, prompts = chunk - paged, prompts - paged
        room -= pinned * size + paged + size
        if count == rest:
            room -= _answer(state, request)
        else:
            state.ranks[CUT, rank] = request + 1
        if room <= 0:
            return True
    return False


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


def _sort_by_prefix(state: State, rank: int) -> None:
    """Those that wait, if they are few, stand by the prefix that they find, the longest first; last
    those that find little, and of which one before them has as much.
    """
    if state.ranks[WAIT, rank] > MOST_SORTED:
        return
    request = state.ranks[WAIT_FIRST, rank]
    while request != NONE:
        hits, _ = hits_of(state, request)
        found = hits * state.numbers[BLOCK_SIZE]
        alike = found <= IN_BATCH and _is_like_one_before(state, request)
        state.requests[MATCHED, request] = NONE if alike else found
        request = state.requests[AFTER, request]
    request = state.ranks[WAIT_FIRST, rank]
    while request != NONE:
        after, before = state.requests[AFTER, request], state.requests[BEFORE, request]
        matched = state.requests[MATCHED]
        while before != NONE and matched[before] < matched[request]:
            before = state.requests[BEFORE, before]
        if before != state.requests[BEFORE, request]:
            stop_waiting(state, request)
            wait_behind(state, request, before)
        request = after


def _is_like_one_before(state: State, request: int) -> bool:
    """Whether one that waits before ``request``, and finds little, too, begins alike."""
    content = _beginning(state, request)
    one = NONE if content == NONE else state.requests[BEFORE, request]
    while one != NONE:
        little = 0 <= state.requests[MATCHED, one] <= IN_BATCH
        if little and _beginning(state, one) == content:
            return True
        one = state.requests[BEFORE, one]
    return False


def _beginning(state: State, request: int) -> int:
    """What the blocks of its first tokens hold, as many as make one like another; NONE: it has
    fewer.
    """
    blocks = blocks_of(state, IN_BATCH)
    if blocks * state.numbers[BLOCK_SIZE] > state.requests[KNOWN, request]:
        return NONE
    return int(state.contents[state.requests[TABLE, request] + blocks - 1])


def _answer_left(state: State, request: int) -> int:
    """Tokens of its answer that nobody has seen of ``request``."""
    return int(state.requests[OUTPUT, request] - state.requests[GIVEN, request])


def _answer(state: State, request: int) -> int:
    """Tokens of its whole answer that room is left for."""
    return int(min(state.requests[OUTPUT, request], MOST_ANSWER))


def _free(state: State, rank: int) -> int:
    return int(state.ranks[FREE, rank] * state.numbers[BLOCK_SIZE])


def _kept(state: State, rank: int) -> float:
    """Tokens that the ratio leaves for answers of those that run."""
    kept, ratio = 0.0, (state.ranks[OWN, rank] - 1) / ONE
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        if not _is_cut(state, rank, request):
            kept += min(_answer_left(state, request), MOST_ANSWER) * ratio
    return float(kept)


def _answers(state: State, knobs: Knobs, rank: int) -> None:
    """A token of each answer; where there is no room, some are retracted, unless others leave once
    the last step is seen.
    """
    due_now = 0
    for place in range(state.ranks[RUN, rank]):
        due_now += _answers_one(state, rank, state.running[rank, place])
    if due_now == 0:
        return
    if make_room(state, rank, _needs(state, rank)):
        ratio, least = (state.ranks[OWN, rank] - 1) / ONE, knobs.least / ONE
        fall = (knobs.first - knobs.least) / ONE / FALL_STEPS
        state.ranks[OWN, rank] = int(max(ratio - fall, least) * ONE) + 1
    elif due_now < _answering(state, rank):
        state.ranks[FULL, rank] = 0
        return
    else:
        _retract(state, rank)
    _add_answers(state, rank)


def _mix(state: State, rank: int, first: int) -> None:
    """A step of prompts, from entry ``first`` on, gets a token of each answer, if all have room:
    then those prompts stand before them.
    """
    last, needs = state.numbers[ENTRIES], _needs(state, rank)
    mixed = needs <= state.ranks[FREE, rank] and _add_answers(state, rank)
    for entry in range(first, last):
        request = state.log[WHO, entry]
        _stand_at(state, rank, request, entry - first if mixed else state.ranks[RUN, rank] - 1)
    if mixed:  # a new batch, which does not know that one found no room
        state.ranks[FULL, rank] = 0


def _stand_at(state: State, rank: int, request: int, place: int) -> None:
    """``request`` is the one at ``place`` of those that run."""
    running, at = state.running[rank], 0
    while running[at] != request:
        at += 1
    step = 1 if at < place else -1
    for k in range(at, place, step):
        running[k] = running[k + step]
    running[place] = request


def _add_answers(state: State, rank: int) -> bool:
    """The next token of each answer that has room; whether there is one."""
    some = False
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        reach = state.requests[COMPUTED, request] + 1
        has_room = lacking(state, request, reach) <= state.ranks[FREE, rank]
        if _answers_one(state, rank, request) and has_room:
            add(state, request, 1)
            some = True
    return some


def _needs(state: State, rank: int) -> int:
    """Blocks for one more token of each answer."""
    blocks = 0
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        if _answers_one(state, rank, request):
            blocks += lacking(state, request, state.requests[COMPUTED, request] + 1)
    return blocks


def _retract(state: State, rank: int) -> None:
    """Until the next tokens have room, at least one and all but one wait again, behind all: who has
    the shortest answer, of equal ones the longest prompt, then runs last. The others stand in the
    order in which they would have followed, the last one first.
    """
    for last in range(1, state.ranks[RUN, rank]):
        place, request = last, state.running[rank, last]
        while place > 0 and _goes_sooner(state, state.running[rank, place - 1], request):
            place -= 1
        _stand_at(state, rank, request, place)
    some = True
    while some and state.ranks[RUN, rank] > 1:
        request = state.running[rank, state.ranks[RUN, rank] - 1]
        preempt(state, rank, state.ranks[RUN, rank] - 1)
        state.requests[KNOWN, request] = state.requests[INPUT, request]
        state.requests[KNOWN, request] += state.requests[GIVEN, request]
        if _is_cut(state, rank, request):  # where it found no room, SGLang ends with an error
            state.ranks[CUT, rank] = 0
        stop_waiting(state, request)
        wait_last(state, request)
        some = not make_room(state, rank, _needs(state, rank))
    _raise_ratio(state, rank)


def _goes_sooner(state: State, one: int, other: int) -> bool:
    """Whether ``one`` is retracted before ``other``, though it stands before it."""
    asked = state.requests
    if asked[GIVEN, one] != asked[GIVEN, other]:
        return bool(asked[GIVEN, one] < asked[GIVEN, other])
    return bool(asked[INPUT, one] > asked[INPUT, other])


def _raise_ratio(state: State, rank: int) -> None:
    """What the answers that are left have given, and 20 tokens more each, over all of theirs and
    one.
    """
    given, whole = 0, 1
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        given += state.requests[GIVEN, request] + RETRACT_STEPS
        whole += state.requests[OUTPUT, request]
    state.ranks[OWN, rank] = int(min(given / whole, 1.0) * ONE) + 1
