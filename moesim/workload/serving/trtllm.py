"""TensorRT-LLM's scheduler (tensorrt_llm/_torch/pyexecutor/scheduler.py, from memory)."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from moesim.workload.serving import vllm
from moesim.workload.serving.base import RequestScheduler, Rule
from moesim.workload.serving.lists import add, due
from moesim.workload.serving.room import admit_for_good, rest_of
from moesim.workload.serving.state import NEVER, RUN, WAIT, WAIT_FIRST, State
from moesim.workload.serving.vllm import go_on


class Knobs(NamedTuple):
    """What the rule goes by."""

    budget: int
    most_running: int
    chunked: int


class Trtllm(RequestScheduler):
    """TensorRT-LLM: by default a request is admitted only where it will never have to give way."""

    counts_requests: ClassVar[bool] = True
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
            return Knobs(budget, self.max_num_seqs, chunked)
        return vllm.Knobs(budget, self.max_num_seqs, NEVER, chunked, whole=0, watermark=0)


def schedule(state: State, knobs: Knobs, rank: int) -> None:
    """Those that run go on, for which there is room; then those that wait, in order, while all have
    room to their ends.
    """
    budget, _ = go_on(state, rank, knobs.budget, knobs.budget)
    while state.ranks[WAIT, rank] > 0 and budget > 0:
        request = state.ranks[WAIT_FIRST, rank]
        if state.ranks[RUN, rank] >= knobs.most_running:
            return
        if not knobs.chunked and rest_of(state, request) > budget:
            return
        if not admit_for_good(state, request, rank):
            return
        count = min(due(state, request), budget)
        add(state, request, count)
        budget -= count
