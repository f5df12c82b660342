"""Continuous batching: each step has the tokens that a scheduler of an engine chooses."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from moesim.config.oneof import OneOf
from moesim.workload.batching.base import AnyBatching
from moesim.workload.batching.refill import Refill
from moesim.workload.requests import Requests
from moesim.workload.schedule import Seats
from moesim.workload.serving import registry as schedulers
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.vllm import Vllm


class Continuous(AnyBatching):
    """Requests come and go step by step, prompts beside answers, as a scheduler decides."""

    kind: Literal["continuous"] = "continuous"
    serves: ClassVar[bool] = True
    scheduler: Annotated[RequestScheduler, OneOf(schedulers)] = Field(
        default_factory=Vllm,
        description="What decides which tokens the next step has: the software's own (vllm, sglang,"
        " trtllm, llama.cpp), if left out, else vllm.",
        json_schema_extra={"default": {"kind": "vllm"}},
    )

    @property
    def in_flight(self) -> int:
        """See ``AnyBatching``: of one rank."""
        return self.scheduler.most_running

    def seats(self, requests: Requests) -> Seats:
        """See ``AnyBatching``: batches that are always full."""
        return Refill(batch_size=self.scheduler.most_running).seats(requests)
