"""What is simulated: the study's tasks, and one point of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Phase = Literal["prefill", "encode", "decode"]
GPUS = 8
"""GPUs of a node."""
NODES = (1, 2, 4)
SLOTS = 10
"""Expert slots a layer and GPU of the study's throughput with buffering."""
MOST_SLOTS = 16


@dataclass(frozen=True)
class Task:
    """A model at one kind of forward pass (arXiv 2303.06182).

    ``batches``: sentences a GPU that the study tried; ``batch`` that of its latencies; ``capacity``
    static gating's share of the tokens; ``trace`` the parameter file of the routing.
    """

    name: str
    model: str
    trace: str
    phase: Phase
    batches: tuple[int, ...]
    batch: int
    capacity: str

    @property
    def mix(self) -> str:
        """The model's name in ids: ``lm`` or ``mt``."""
        return self.name.split("_")[0]


LM_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
MT_BATCHES = (6, 12, 24, 48, 96)
_MT = ("nllb-moe-54b", "reference_study/mt.yaml")
TASKS: Mapping[str, Task] = MappingProxyType({
    task.name: task
    for task in (
        Task("lm", "lm-52b", "reference_study/lm.yaml", "prefill", LM_BATCHES, 8, "5 %"),
        Task("mt_encoder", *_MT, "encode", MT_BATCHES, 48, "100 %"),
        Task("mt_decoder", *_MT, "decode", MT_BATCHES, 48, "100 %"),
    )
})  # fmt: skip
GATINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "static": {"kind": "static"},
    "tutel": {"kind": "tutel"},
    "tutel_no_drop": {"kind": "tutel", "capacity": "no_drop"},
    "tutel_batched": {"kind": "tutel"},
    "dynamic": {"kind": "dynamic"},
})  # fmt: skip
"""Gatings by the name that this study gives them; ``dense`` is the counterpart without experts."""


@dataclass(frozen=True)
class Setting:
    """One point: ``batch`` sentences a GPU of ``domain`` (0 is the mildest), ``slots`` a layer and
    GPU (None: every expert resident), ``pool``: drawn from a pool of so many times the sentences.
    """

    task: str
    gating: str
    batch: int
    nodes: int = 1
    domain: int = 0
    slots: int | None = None
    planner: str = "contiguous"
    policy: str = "lifo"
    batches: int = 1
    pool: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of all nodes."""
        return GPUS * self.nodes

    @property
    def sentences(self) -> int:
        """Sentences of one batch over all GPUs."""
        return self.batch * self.gpus

    @property
    def kernels(self) -> Literal["serial", "batched"]:
        """One expert after the other, as in the study, or in one product."""
        return "batched" if self.gating == "tutel_batched" else "serial"
