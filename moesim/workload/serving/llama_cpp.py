"""llama.cpp's server: slots, and batches of tokens of all of them (tools/server/server.cpp, from
memory).
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from moesim.config.tokens import Tokens
from moesim.workload.serving.base import RequestScheduler, Rule
from moesim.workload.serving.lists import add, due
from moesim.workload.serving.room import admit_for_good
from moesim.workload.serving.state import (
    COMPUTED,
    INPUT,
    NEVER,
    OWN,
    RUN,
    WAIT,
    WAIT_FIRST,
    State,
)


class Knobs(NamedTuple):
    """What the rule goes by."""

    most_running: int
    batch: int
    physical: int


class LlamaCpp(RequestScheduler):
    """llama.cpp: one token of each answer, then prompts by slot, in batches cut into passes."""

    counts_requests: ClassVar[bool] = True
    kind: Literal["llama.cpp"] = "llama.cpp"
    max_num_seqs: int = Field(default=4, ge=1, le=1 << 16, description="Slots (-np).")
    async_scheduling: bool = Field(
        default=False, description="As under other schedulers; llama.cpp does not."
    )
    n_batch: int = Field(default=2048, ge=1, description="The most tokens of a batch (-b).")
    n_ubatch: int = Field(
        default=512,
        ge=1,
        description="The most tokens of a pass; a batch is as many as it takes (-ub).",
    )
    slot_context: Tokens | None = Field(
        default=None, description="Tokens that a slot holds (-c over -np); by default the model's."
    )

    @model_validator(mode="after")
    def _answers_fit(self) -> LlamaCpp:
        if self.max_num_seqs > min(self.n_ubatch, self.n_batch):
            what = f"{self.max_num_seqs} slots do not fit into a pass"
            raise ValueError(f"{what}; write n_batch and n_ubatch of at least as many tokens")
        return self

    @property
    def longest(self) -> int:
        """See ``RequestScheduler``."""
        return self.slot_context or NEVER

    @property
    def promises_blocks(self) -> bool:
        """See ``RequestScheduler``."""
        return True

    @property
    def most_tokens(self) -> int:
        """See ``RequestScheduler``."""
        return self.n_ubatch

    def rule(self) -> Rule:
        """See ``RequestScheduler``."""
        return schedule

    def knobs(self, blocks: int) -> Knobs:
        """See ``RequestScheduler``."""
        del blocks
        return Knobs(self.max_num_seqs, self.n_batch, self.n_ubatch)


def schedule(state: State, knobs: Knobs, rank: int) -> None:
    """A batch begins with requests for free slots and one token of each answer; prompts follow, by
    slot. What is left of it (``OWN``) are prompts that its further passes take.
    """
    room = knobs.physical
    if state.ranks[OWN, rank] == 0:
        while state.ranks[WAIT, rank] > 0 and state.ranks[RUN, rank] < knobs.most_running:
            if not admit_for_good(state, state.ranks[WAIT_FIRST, rank], rank):
                break
        answers = _answers(state, rank)
        room -= answers
        state.ranks[OWN, rank] = min(knobs.batch - answers, _prompts(state, rank))
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        if _in_prompt(state, request):
            count = min(due(state, request), room, state.ranks[OWN, rank])
            if count > 0:
                add(state, request, count)
                room -= count
                state.ranks[OWN, rank] -= count


def _in_prompt(state: State, request: int) -> bool:
    return bool(state.requests[COMPUTED, request] < state.requests[INPUT, request])


def _answers(state: State, rank: int) -> int:
    """One token of every answer is in the step; how many."""
    count = 0
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        if not _in_prompt(state, request) and due(state, request) > 0:
            add(state, request, 1)
            count += 1
    return count


def _prompts(state: State, rank: int) -> int:
    """Tokens of prompts that are left."""
    tokens = 0
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        if _in_prompt(state, request):
            tokens += due(state, request)
    return tokens
