"""What serving requests takes: memory for their keys and values, and engines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from moesim.config.oneof import OneOf, component
from moesim.config.params import Params
from moesim.config.units import KvCapacity, KvRoom, Percent
from moesim.experiment.schema.disaggregation import Disaggregation
from moesim.metrics.service_level import Service
from moesim.workload.routers import registry as routers
from moesim.workload.routers.base import Router
from moesim.workload.splits import registry as splits
from moesim.workload.splits.base import Split


def _some(share: float) -> float:
    if share == 0:
        what = "leaves the engine no memory; a share above 0 is needed, as in '90 %'"
        raise ValueError(f"'0 %' {what}")
    return share


class Memory(Params):
    """A GPU's memory where requests are served: what is set aside for keys and values."""

    gpu_memory_utilization: Annotated[Percent, AfterValidator(_some)] = Field(
        default=0.9,
        description="The share of a GPU's memory that the engine takes; trtllm has none.",
    )
    block_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Tokens of a block; by default 1 under sglang, else 16.",
    )
    kv: KvRoom = Field(
        default=KvCapacity("auto"),
        description="Room for keys and values on each GPU: what all else leaves (auto), blocks "
        "('2588 blocks', as the engine prints them), bytes ('12 GiB'), or a share of what all else "
        "leaves ('90 %', TensorRT-LLM's free_gpu_memory_fraction, which auto is under trtllm).",
    )
    prefix_caching: bool = Field(
        default=True,
        description="Full blocks are found again by their content, as long as nothing else took "
        "their place.",
    )
    split: Annotated[Split, OneOf(splits)] = component(
        splits, "static", "Whether slots of experts and blocks change places as the run goes."
    )

    def share_of_free(self, usual: float | None) -> float | None:
        """Of what all else leaves, what keys and values take, the engine's ``usual`` one where
        nothing is said; None: another rule decides.
        """
        if self.kv.kind == "auto":
            return usual
        return self.kv.amount if self.kv.kind == "fraction" else None


class Serving(Service):
    """What clients are promised, and the engines that share their requests."""

    replicas: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Engines like this one, each on machines of its own, that share the requests.",
    )
    router: Annotated[Router, OneOf(routers)] = component(
        routers, "round_robin", "Which of the replicas gets a request."
    )
    disaggregation: Disaggregation | None = Field(
        default=None,
        description="Prompts and answers on engines of their own, as in {prefill: 1, decode: 1}.",
    )
    price_interval: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether times of requests that come by the clock have an interval by what "
        "prices may be off by, for which the run is played twice more: of runs of up to half a "
        "million tokens, always, or never.",
    )

    @property
    def alone(self) -> bool:
        """Whether one engine serves all."""
        return self.replicas == 1 and self.disaggregation is None
