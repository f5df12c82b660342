"""llama.cpp's server: slots, and batches of tokens of all of them (``update_slots`` and
``get_available_slot`` in tools/server/server-context.cpp, ``split_simple`` and ``split_equal`` in
src/llama-batch.cpp, as of autumn 2026).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from moesim.config.names import plain_name
from moesim.config.tokens import Tokens
from moesim.model import ModelSpec
from moesim.workload.serving.base import RequestScheduler, Rule
from moesim.workload.serving.linked import put_behind, take_out
from moesim.workload.serving.lists import add, due
from moesim.workload.serving.room import admit_for_good
from moesim.workload.serving.state import (
    BEGAN,
    COMPUTED,
    CUT,
    DEFERRED,
    ENDED,
    ENTRIES,
    IDLE,
    IDLE_FIRST,
    IDLE_LAST,
    IN_BATCH,
    INPUT,
    NEVER,
    NONE,
    NOT_YET,
    OWN,
    RANK,
    RUN,
    SHOWN,
    SINCE,
    SLOT,
    SLOTS,
    STATUS,
    STEPS,
    WAIT,
    WAIT_FIRST,
    WHO,
    State,
)

LAST_TOKENS = 4
"""Of a prompt, behind its last checkpoint."""
FORK = plain_name("ik_llama.cpp")
"""Begins the name of software whose server has one KV cache, and knows nothing of layers."""


class Knobs(NamedTuple):
    """What the rule goes by."""

    most_running: int
    batch: int
    physical: int
    unified: int
    recurrent: int
    checkpoints: int


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
    kv_unified: bool | None = Field(
        default=None,
        description="Whether all slots share one KV cache (-kvu): a pass takes what comes next of "
        "a batch. Else it takes as many tokens of each of some slots, whose numbers follow one "
        "another. By default as in llama.cpp unless max_num_seqs is said, in ik_llama.cpp always.",
    )
    recurrent: bool | None = Field(
        default=None,
        description="Whether a pass takes as many tokens of each of its slots, with a unified KV "
        "cache too; by default where the model has recurrent layers, but for ik_llama.cpp.",
    )
    checkpoints: bool | None = Field(
        default=None,
        description="Whether prompts stop 4 + n_ubatch and 4 tokens before their end, as the "
        "server's do (--ctx-checkpoints); by default where the model has a sliding window or "
        "recurrent layers, but for ik_llama.cpp. llama-bench has none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _unified_unless_slots_are_said(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "max_num_seqs" in given:
            return given
        return given if given.get("kv_unified") is not None else given | {"kv_unified": True}

    @model_validator(mode="after")
    def _answers_fit(self) -> LlamaCpp:
        if self.max_num_seqs > min(self.n_ubatch, self.n_batch):
            what = f"{self.max_num_seqs} slots do not fit into a pass"
            raise ValueError(f"{what}; write n_batch and n_ubatch of at least as many tokens")
        return self

    def served_by(self, software: str, model: ModelSpec) -> Self:
        """See ``RequestScheduler``."""
        own = servers_own(software, model)
        unsaid = {key: value for key, value in own.items() if getattr(self, key) is None}
        return self.model_copy(update=unsaid)

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
        split = self.kv_unified, self.recurrent, self.checkpoints
        return Knobs(
            self.max_num_seqs, self.n_batch, self.n_ubatch, *(int(one or 0) for one in split)
        )


def servers_own(software: str, model: ModelSpec) -> dict[str, bool]:
    """What the server does by itself where slots are said, by the keys that say so: it keeps of a
    prompt what it could not go back to.
    """
    if plain_name(software).startswith(FORK):
        return {"kv_unified": True, "recurrent": False, "checkpoints": False}
    attention = [layer.attention for layer in model.layers]
    recurrent = any(one.state_bytes for one in attention)
    kept = recurrent or any(one.window for one in attention)
    return {"kv_unified": False, "recurrent": recurrent, "checkpoints": kept}


def schedule(state: State, knobs: Knobs, rank: int) -> None:
    """A batch begins with requests for free slots: it has a token of each answer, then prompts, by
    slot. A step is one of the passes that it is split into; of the batch so many tokens are left
    (``OWN``), and of each request some (``IN_BATCH``).
    """
    if state.ranks[OWN, rank] == 0:
        _free_slots(state, rank)
        _take_slots(state, knobs, rank)
        _begin_batch(state, knobs, rank)
    if state.ranks[OWN, rank] == 0:
        return
    if knobs.unified and not knobs.recurrent:
        _next_tokens(state, knobs.physical, rank)
    else:
        _next_of_slots(state, knobs, rank)
    _show(state, rank)


def _free_slots(state: State, rank: int) -> None:
    """The slots of those who ended in the last batch are idle, the lowest first. (Where ends are
    seen late, in the one before.)
    """
    freed, one = 0, _lowest_ended(state, rank)
    while one != NONE:
        put_behind(state.requests, state.ranks, IDLE, rank, one, state.ranks[IDLE_LAST, rank])
        state.requests[IN_BATCH, one] = NONE
        freed, one = freed + 1, _lowest_ended(state, rank)
    state.ranks[DEFERRED, rank] = min(state.ranks[DEFERRED, rank], freed)


def _lowest_ended(state: State, rank: int) -> int:
    """Who has ended, and holds the lowest slot yet, NONE: nobody."""
    asked, lowest = state.requests, NONE
    for entry in range(state.ranks[CUT, rank], state.numbers[ENTRIES]):
        one = state.log[WHO, entry]
        holds = asked[RANK, one] == rank and asked[IN_BATCH, one] >= 0
        if holds and asked[STATUS, one] == ENDED:
            lower = lowest == NONE or asked[SLOT, one] < asked[SLOT, lowest]
            lowest = one if lower else lowest
    return int(lowest)


def _take_slots(state: State, knobs: Knobs, rank: int) -> None:
    """Requests run in the slots that have been idle longest, of those never used the last one
    first. Of those that found none before, as many as slots became free come in turned order.
    """
    running, before = state.running[rank], state.ranks[RUN, rank]
    while state.ranks[WAIT, rank] > 0 and state.ranks[RUN, rank] < knobs.most_running:
        request = state.ranks[WAIT_FIRST, rank]
        if not admit_for_good(state, request, rank):
            break
        state.requests[SLOT, request] = _idle_slot(state, knobs, rank)
    low, high = before, min(before + state.ranks[DEFERRED, rank], state.ranks[RUN, rank]) - 1
    while low < high:
        one, other = running[low], running[high]
        slot = state.requests[SLOT, one]
        state.requests[SLOT, one] = state.requests[SLOT, other]
        state.requests[SLOT, other] = slot
        low, high = low + 1, high - 1
    state.ranks[DEFERRED, rank] = state.ranks[WAIT, rank]
    for place in range(before, state.ranks[RUN, rank]):
        request, at = running[place], place
        while at > 0 and state.requests[SLOT, running[at - 1]] > state.requests[SLOT, request]:
            running[at] = running[at - 1]
            at -= 1
        running[at] = request


def _idle_slot(state: State, knobs: Knobs, rank: int) -> int:
    """The slot that has been idle longest, which is no longer."""
    if state.ranks[SLOTS, rank] < knobs.most_running:
        state.ranks[SLOTS, rank] += 1
        return int(knobs.most_running - state.ranks[SLOTS, rank])
    last = state.ranks[IDLE_FIRST, rank]
    take_out(state.requests, state.ranks, IDLE, rank, last)
    return int(state.requests[SLOT, last])


def _begin_batch(state: State, knobs: Knobs, rank: int) -> None:
    """What it has of each answer, then of each prompt, by slot."""
    room = knobs.batch
    for prompts in range(2):
        for place in range(state.ranks[RUN, rank]):
            request = state.running[rank, place]
            if _in_prompt(state, request) == (prompts == 1):
                count = min(due(state, request), room)
                if prompts and knobs.checkpoints:
                    count = min(count, _to_checkpoint(state, knobs, request))
                state.requests[IN_BATCH, request] = count
                room -= count
    state.ranks[OWN, rank] = knobs.batch - room
    if room < knobs.batch:  # where nothing is due, ends of the last batch may be seen yet
        state.ranks[CUT, rank] = state.ranks[BEGAN, rank]
        state.ranks[BEGAN, rank] = state.numbers[ENTRIES]


def _to_checkpoint(state: State, knobs: Knobs, request: int) -> int:
    """Tokens of a prompt up to where it stops next."""
    end, begin = state.requests[INPUT, request], state.requests[COMPUTED, request]
    early = end - min(knobs.batch, LAST_TOKENS + knobs.physical)
    late = end - min(knobs.batch, LAST_TOKENS)
    if early > begin:
        return int(early - begin)
    return int((late if late > begin else end) - begin)


def _next_tokens(state: State, room: int, rank: int) -> None:
    """The pass has the next tokens of the batch."""
    for prompts in range(2):
        for place in range(state.ranks[RUN, rank]):
            request = state.running[rank, place]
            count = min(state.requests[IN_BATCH, request], room)
            if count > 0 and _in_prompt(state, request) == (prompts == 1):
                _take(state, request, count, rank)
                room -= count


def _next_of_slots(state: State, knobs: Knobs, rank: int) -> None:
    """The pass has as many tokens of each slot that it can take together, in the order of the
    batch: without a unified KV cache each has the number behind that of the one before.
    """
    number, least = 0, NEVER
    for take in range(2):
        last = NONE
        count, members = min(least, max(1, knobs.physical // max(1, number))), number
        for prompts in range(2):
            for place in range(state.ranks[RUN, rank]):
                request = state.running[rank, place]
                left, slot = state.requests[IN_BATCH, request], state.requests[SLOT, request]
                follows = knobs.unified or last == NONE or slot == last + 1
                if left <= 0 or not follows or _in_prompt(state, request) != (prompts == 1):
                    continue
                last = slot
                if take == 0 and number < knobs.physical:
                    number, least = number + 1, min(least, left)
                elif take == 1 and members > 0:
                    _take(state, request, count, rank)
                    members -= 1


def _take(state: State, request: int, count: int, rank: int) -> None:
    """The pass has the next ``count`` tokens of ``request``."""
    add(state, request, count)
    state.requests[IN_BATCH, request] -= count
    state.ranks[OWN, rank] -= count


def _show(state: State, rank: int) -> None:
    """The server samples once all passes of a batch have run: its tokens come with the last one."""
    step, first = state.numbers[STEPS], state.ranks[BEGAN, rank]
    state.steps[SINCE, step] = min(state.steps[SINCE, step], first)
    shown = step if state.ranks[OWN, rank] == 0 else NOT_YET
    for entry in range(first, state.numbers[ENTRIES]):
        if state.requests[RANK, state.log[WHO, entry]] == rank:
            state.log[SHOWN, entry] = shown


def _in_prompt(state: State, request: int) -> bool:
    return bool(state.requests[COMPUTED, request] < state.requests[INPUT, request])
