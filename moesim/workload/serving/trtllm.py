"""TensorRT-LLM's scheduler (scheduler.py and, of prompts that wait for other ranks,
``_balance_adp_requests`` of py_executor.py in tensorrt_llm/_torch/pyexecutor, from memory).
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator

from moesim.config.params import Params
from moesim.workload.serving import vllm
from moesim.workload.serving.base import RequestScheduler, Rule
from moesim.workload.serving.lists import add, due
from moesim.workload.serving.room import admit_for_good, has_room_for_good, rest_of
from moesim.workload.serving.state import (
    COMPUTED,
    GATHERED,
    HOLDS,
    INPUT,
    LACKED,
    NEVER,
    RUN,
    WAIT,
    WAIT_FIRST,
    State,
)
from moesim.workload.serving.vllm import go_on


class Knobs(NamedTuple):
    """What the rule goes by; ``balances``: whether prompts wait for other ranks."""

    budget: int
    most_running: int
    chunked: int
    balances: int
    timeout: int
    gathers: int


class AttentionDp(Params):
    """Which prompts wait for other ranks, where each rank has attention of its own."""

    enable_balance: bool = Field(
        default=False,
        description="Prompts wait until every rank can begin one; with one rank none waits.",
    )
    timeout_iters: int = Field(
        default=50, ge=0, description="Steps after which they go on without that."
    )
    batching_wait_iters: int = Field(
        default=10, ge=0, description="Steps that they wait for more once every rank can begin one."
    )


class Trtllm(RequestScheduler):
    """TensorRT-LLM: by default a request is admitted only where it will never have to give way."""

    counts_requests: ClassVar[bool] = True
    kv_share: ClassVar[float | None] = 0.9  # free_gpu_memory_fraction, from memory
    kind: Literal["trtllm"] = "trtllm"
    max_num_tokens: int = Field(
        default=8192, ge=1, description="The most tokens of a rank in one step."
    )
    capacity_scheduler_policy: Literal["guaranteed_no_evict", "max_utilization"] = Field(
        default="guaranteed_no_evict",
        description="Whether prompt and whole answer of all that run have room, or the last one "
        "gives way where room is short, and is computed again.",
    )
    enable_chunked_context: bool = Field(
        default=False, description="A prompt may take what is left of a step, and go on later."
    )
    max_attention_window: Literal["model"] | None = Field(
        default=None,
        description="What layers with a sliding window hold of a request: every token, "
        "TensorRT-LLM's default, or (model) their window.",
    )
    attention_dp_config: AttentionDp = Field(
        default=AttentionDp(),
        description="Whether prompts wait for other ranks under data parallelism, and how long.",
    )

    @model_validator(mode="after")
    def _balances_what_has_room(self) -> Trtllm:
        if self.attention_dp_config.enable_balance and not self.promises_blocks:
            raise ValueError(
                "attention_dp_config.enable_balance goes with capacity_scheduler_policy "
                "'guaranteed_no_evict': who waits while others give way is not known here"
            )
        return self

    @property
    def longest_prompt(self) -> int:
        """See ``RequestScheduler``; what gives way is computed again, prompt and answer."""
        return NEVER if self.enable_chunked_context else self.max_num_tokens

    @property
    def longest(self) -> int:
        """See above."""
        chunked = self.promises_blocks or self.enable_chunked_context
        return NEVER if chunked else self.max_num_tokens + 1

    @property
    def most_tokens(self) -> int:
        """See ``RequestScheduler``."""
        return self.max_num_tokens

    @property
    def promises_blocks(self) -> bool:
        """See ``RequestScheduler``."""
        return self.capacity_scheduler_policy == "guaranteed_no_evict"

    @property
    def keeps_windows(self) -> bool:
        """See ``RequestScheduler``; resource_manager.py takes the longest request for the window of
        all layers where none is given (from memory).
        """
        return self.max_attention_window is not None

    def rule(self) -> Rule:
        """See ``RequestScheduler``."""
        return schedule if self.promises_blocks else vllm.schedule

    def knobs(self, blocks: int) -> Knobs | vllm.Knobs:
        """See ``RequestScheduler``; ``max_utilization`` is vLLM's rule, chunk by chunk."""
        budget, chunked = self.max_num_tokens, int(self.enable_chunked_context)
        if self.promises_blocks:
            dp = self.attention_dp_config
            waits = int(dp.enable_balance), dp.timeout_iters, dp.batching_wait_iters
            return Knobs(budget, self.most_running, chunked, *waits)
        return vllm.Knobs(budget, self.most_running, NEVER, chunked, whole=0, watermark=0)


def schedule(state: State, knobs: Knobs, rank: int) -> None:
    """Those that run go on, for which there is room; then those that wait, in order, while all have
    room to their ends; without prompts where these wait for other ranks.
    """
    if knobs.balances and rank == 0 and state.ranks.shape[1] > 1:
        state.numbers[HOLDS] = holds_prompts(state, knobs)
    if state.numbers[HOLDS]:
        budget = answers_go_on(state, knobs, rank)
    else:
        budget, _ = go_on(state, rank, knobs.budget, knobs.budget)
    while state.ranks[WAIT, rank] > 0 and budget > 0:
        request = state.ranks[WAIT_FIRST, rank]
        if state.numbers[HOLDS] and is_prompt(state, request):
            return
        if state.ranks[RUN, rank] >= knobs.most_running:
            return
        if not knobs.chunked and rest_of(state, request) > budget:
            return
        if not admit_for_good(state, request, rank):
            return
        count = min(due(state, request), budget)
        add(state, request, count)
        budget -= count


def is_prompt(state: State, request: int) -> bool:
    """Whether the next token of ``request`` is of its prompt."""
    return bool(state.requests[COMPUTED, request] < state.requests[INPUT, request])


def answers_go_on(state: State, knobs: Knobs, rank: int) -> int:
    """Those that run and answer; what is left of the budget. They have been promised their room."""
    budget = knobs.budget
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        count = min(due(state, request), budget)
        if count > 0 and not is_prompt(state, request):
            add(state, request, count)
            budget -= count
    return budget


def holds_prompts(state: State, knobs: Knobs) -> bool:
    """Whether the prompts of all ranks wait in this step; counts how long they do.

    Each rank says what its step had if none waited. They wait until every rank has a prompt, and
    then for more of them, but never where a rank has no answer to go on with.
    """
    all_begin, all_answer, some = True, True, False
    for rank in range(state.ranks.shape[1]):
        answers, prompt = offered(state, knobs, rank)
        idle = state.ranks[RUN, rank] + state.ranks[WAIT, rank] == 0  # it computes a dummy answer
        all_begin = all_begin and prompt and answers < knobs.most_running
        all_answer = all_answer and (answers > 0 or idle)
        some = some or prompt or answers > 0
    if not some:  # then there is no step
        return False
    waits = GATHERED if all_begin else LACKED
    if all_begin:
        state.numbers[LACKED] = 0
        if not all_answer:
            return False
    state.numbers[waits] += 1
    last = knobs.gathers + 1 if all_begin else knobs.timeout
    if state.numbers[waits] < last and all_answer:
        return True
    state.numbers[waits] = 0
    return False


def offered(state: State, knobs: Knobs, rank: int) -> tuple[int, bool]:
    """How many answers go on, and whether a prompt goes on or can begin, if none waits."""
    budget, answers, prompt = knobs.budget, 0, False
    for place in range(state.ranks[RUN, rank]):
        request = state.running[rank, place]
        count = min(due(state, request), budget)
        budget -= count
        if count > 0 and is_prompt(state, request):
            prompt = True
        elif count > 0:
            answers += 1
    if prompt or state.ranks[WAIT, rank] == 0 or budget == 0:
        return answers, prompt
    request = state.ranks[WAIT_FIRST, rank]
    if state.ranks[RUN, rank] >= knobs.most_running or not is_prompt(state, request):
        return answers, False
    if not knobs.chunked and rest_of(state, request) > budget:
        return answers, False
    return answers, has_room_for_good(state, request, rank)
