"""vLLM V1's scheduler: those that run go on, then the first that waits is admitted, and so on.

Source: vllm/v1/core/sched/scheduler.py (vLLM 0.33).
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import Field

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError, Problem
from moesim.config.tokens import Tokens
from moesim.config.units import Percent
from moesim.workload.serving.base import FEWEST_SEQS, KEY, RequestScheduler, Rule
from moesim.workload.serving.blocks import (
    begin_of,
    hits_of,
    junction_of,
    keeps_inside,
    lacking,
    let_go_behind,
    prompt_end,
    takes,
    takes_at_most,
    waits_for_state,
)
from moesim.workload.serving.exchange import make_room
from moesim.workload.serving.lists import add, begin_at, due, preempt
from moesim.workload.serving.state import (
    ARRIVAL,
    BLOCK_SIZE,
    BLOCKED,
    BY_PRIORITY,
    COMPUTED,
    FREE,
    GIVEN,
    INPUT,
    KNOWN,
    LOOK_AHEAD,
    MOST_PART,
    NEVER,
    NO_STATES,
    PRIORITY,
    RUN,
    SHARED,
    STATES,
    TURN,
    WAIT,
    WAIT_FIRST,
    State,
)

OF_CARDS = ((0, FEWEST_SEQS, 2048), (70 * GIB, 1024, 8192), (160 * GIB, 1024, 16384))
"""Bytes of a card from which on vLLM's server takes so many requests, and tokens of a step
(``get_batch_defaults`` in vllm/engine/arg_utils.py of 0.33.0)."""
AS_SMALL = ("a100", "gb10")
"""In the names of cards that count as small there, whatever they have of memory."""


class Knobs(NamedTuple):
    """What the rule goes by; ``watermark`` in blocks, ``threshold`` NEVER: none."""

    budget: int
    most_running: int
    threshold: int
    chunked: int
    whole: int
    watermark: int


class Vllm(RequestScheduler):
    """vLLM V1: one budget of tokens a step, for decode tokens first, then for prompts in chunks."""

    counts_requests: ClassVar[bool] = True
    kind: Literal["vllm"] = "vllm"
    verifies_drafts: ClassVar[bool] = True
    shares_windows: ClassVar[bool] = True
    max_num_seqs: int | None = Field(
        default=None,
        ge=1,
        le=1 << 16,
        description="Requests that run at once on a rank; by default 1024 on cards of 70 GiB or "
        "more but A100s and GB10s, else 256.",
    )
    max_num_batched_tokens: int | None = Field(
        default=None,
        ge=1,
        description="The most tokens of a rank in one step; by default 16384 on cards of 160 "
        "GiB or more, 8192 on those of 70 but A100s and GB10s, else 2048.",
    )
    enable_chunked_prefill: bool = Field(
        default=True, description="A prompt may take what is left of the budget, and go on later."
    )
    long_prefill_token_threshold: int = Field(
        default=0,
        ge=0,
        description="The most tokens of one request in a step, unless it is alone; 0: no limit.",
    )
    reserve_full_isl: bool = Field(
        default=True,
        description="A prompt is admitted only where there are blocks for all of it, not for its "
        "first chunk alone.",
    )
    watermark: Percent = Field(
        default=0.0, description="Blocks that stay free when a request is admitted beside others."
    )
    max_model_len: Tokens | None = Field(
        default=None,
        description="Tokens of the longest request, prompt and answer: longer ones are rejected; "
        "by default the model's context.",
    )
    policy: Literal["fcfs", "priority"] = Field(
        default="fcfs",
        description="Who waits in front: who came first, or who has the least priority number.",
    )

    def on_card(self, memory_bytes: int, name: str) -> Self:
        """See ``RequestScheduler``. InputError where vLLM would not start: a step that cannot hold
        a token of each request that is asked for at once.
        """
        small = any(one in name.lower() for one in AS_SMALL)
        counted = 0 if small else memory_bytes
        _, seqs, tokens = max(one for one in OF_CARDS if one[0] <= counted)
        own = {
            "max_num_seqs": self.max_num_seqs or seqs,
            "max_num_batched_tokens": self.max_num_batched_tokens or tokens,
        }
        if self.max_num_seqs and own["max_num_batched_tokens"] < self.max_num_seqs:
            what = f"{own['max_num_batched_tokens']:,} is less than max_num_seqs, "
            what += f"{self.max_num_seqs:,}, with which vLLM does not start; write as many tokens,"
            what += " or fewer requests"
            raise InputError([Problem("", f"{KEY}.max_num_batched_tokens", what)])
        return self.model_copy(update=own)

    @property
    def orders(self) -> tuple[int, int, int]:
        """See ``RequestScheduler``."""
        return (int(self.policy == "priority"), *super().orders[1:])

    @property
    def longest(self) -> int:
        """See ``RequestScheduler``; all of a request may have to be computed again at once."""
        whole = NEVER if self.enable_chunked_prefill else self.most_tokens + 1
        return min(whole, self.max_model_len or NEVER)

    @property
    def most_tokens(self) -> int:
        """See ``RequestScheduler``."""
        return self.max_num_batched_tokens or OF_CARDS[0][2]

    def watermark_blocks(self, blocks: int) -> int:
        """See ``RequestScheduler``."""
        return int(self.watermark * blocks)

    def rule(self) -> Rule:
        """See ``RequestScheduler``."""
        return schedule

    def knobs(self, blocks: int) -> Knobs:
        """See ``RequestScheduler``."""
        return Knobs(
            budget=self.most_tokens,
            most_running=self.most_running,
            threshold=self.long_prefill_token_threshold or NEVER,
            chunked=int(self.enable_chunked_prefill),
            whole=int(self.reserve_full_isl),
            watermark=self.watermark_blocks(blocks),
        )


def schedule(state: State, knobs: Knobs, rank: int) -> None:
    """See ``Rule``."""
    state.numbers[TURN] += 1
    state.numbers[MOST_PART] = min(knobs.budget, knobs.threshold)
    alone = state.ranks[RUN, rank] + state.ranks[WAIT, rank] == 1
    threshold = knobs.budget if alone else knobs.threshold
    budget, preempted = go_on(state, rank, knobs.budget, threshold)
    if not preempted:
        admit(state, knobs, rank, (budget, threshold))


def go_on(state: State, rank: int, budget: int, threshold: int) -> tuple[int, bool]:
    """Those that run, in order; where blocks are short the last of them is preempted, be it the one
    at hand, which under priorities keeps nobody else from going on. What is left of the budget, and
    whether any was.
    """
    place, preempted = 0, False
    while place < state.ranks[RUN, rank] and budget > 0:
        request = state.running[rank, place]
        begin = state.requests[COMPUTED, request]
        count = min(due(state, request), threshold, budget)
        if state.numbers[STATES] != NO_STATES:
            junction = state.requests[SHARED, request]
            count = at_states(state, request, (begin, count, junction))
        if count == 0:
            place += 1
            continue
        reach = begin + count + state.numbers[LOOK_AHEAD]
        let_go_behind(state, request)
        runs = True
        while runs and not make_room(state, rank, lacking(state, request, reach)):
            victim = _victim(state, rank)
            runs = state.running[rank, victim] != request
            budget += preempt(state, rank, victim)
            preempted, place = True, place - (victim < place)
        if not runs and state.numbers[BY_PRIORITY]:
            continue
        if not runs:
            break
        add(state, request, count)
        budget, place = budget - count, place + 1
    return budget, preempted


def at_states(state: State, request: int, part: tuple[int, int, int]) -> int:
    """Of a ``part`` of ``request`` (where it begins, tokens, and the block up to which others share
    it) those up to where a state is to be kept (``_mamba_block_aligned_split``): a prompt goes on
    by whole blocks, if one fits in a step, up to the last full block, unless that state is kept
    inside, and up to the end of what is shared.
    """
    begin, count, junction = part
    size, last = state.numbers[BLOCK_SIZE], prompt_end(state, request)
    if begin >= last or count == 0:
        return count
    end = begin + count
    inside = keeps_inside(state, request, (begin, end), last)
    if end < last:
        whole = end // size * size
        if whole > begin or size <= state.numbers[MOST_PART]:
            end = whole
    known = state.requests[INPUT, request] + state.requests[GIVEN, request]
    stop = end
    if begin % size and not inside:
        stop = _sooner(stop, begin, (begin // size + 1) * size)
    if not inside:
        stop = _sooner(stop, begin, (known - 1) // size * size)
    if begin < junction * size < end:
        stop = _sooner(stop, begin, begin + (junction * size - begin) // size * size)
    return int(max(0, stop - begin))


def _sooner(stop: int, begin: int, other: int) -> int:
    """``stop``, or an ``other`` one between it and ``begin``."""
    return other if begin < other < stop else stop


def _victim(state: State, rank: int) -> int:
    """The place of who is preempted first: the last, or the one with the largest priority number,
    of equals the one that arrived last, of equals the first that runs.
    """
    last = state.ranks[RUN, rank] - 1
    if not state.numbers[BY_PRIORITY]:
        return int(last)
    found = 0
    for place in range(1, last + 1):
        one, other = state.running[rank, found], state.running[rank, place]
        if _gives_way(state, other, one):
            found = place
    return found


def _gives_way(state: State, one: int, other: int) -> bool:
    asked = state.requests
    if asked[PRIORITY, one] != asked[PRIORITY, other]:
        return bool(asked[PRIORITY, one] > asked[PRIORITY, other])
    return bool(asked[ARRIVAL, one] > asked[ARRIVAL, other])


def admit(state: State, knobs: Knobs, rank: int, left: tuple[int, int]) -> None:
    """Those that wait, in order, up to the first that has to wait on; ``left``: of the budget, and
    the most tokens of one.
    """
    budget, threshold = left
    while state.ranks[WAIT, rank] > 0 and budget > 0:
        if state.ranks[RUN, rank] >= knobs.most_running:
            return
        request = state.ranks[WAIT_FIRST, rank]
        hits, pinned = hits_of(state, request)
        begin = begin_of(state, request, hits)
        rest = state.requests[KNOWN, request] - begin
        count = min(rest, threshold, budget)
        if not knobs.chunked and min(rest, threshold) > budget:
            return
        if state.numbers[STATES] != NO_STATES:
            count = at_states(state, request, (begin, count, junction_of(state, request)))
            if count == 0 or waits_for_state(state, request, hits):
                return
        free = state.ranks[FREE, rank] - pinned
        if state.ranks[RUN, rank] > 0:
            free -= knobs.watermark
        free = max(0, free)
        known, reach = state.requests[KNOWN, request], begin + count + state.numbers[LOOK_AHEAD]
        whole = takes_at_most(state, request, known, hits) if knobs.whole else 0
        if max(whole, takes(state, request, reach, hits)) > free:
            state.ranks[BLOCKED, rank] += 1
            return
        begin_at(state, request, hits)
        add(state, request, count)
        budget -= count
