"""One run's outcome: its numbers, its tables, and what it takes to run it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from pydantic import BaseModel

STEPS = (
    "step", "phase", "start_ns", "end_ns", "tokens", "decode_tokens", "live_requests", "turns",
    "hits", "late", "misses", "accesses", "access_hits", "bytes_h2d", "stall_ns", "barrier_ns",
    "cpu_wait_ns", "attention_ns", "gate_ns", "dispatch_combine_ns", "experts_ns", "host_ns",
)  # fmt: skip
LAYERS = (
    "step", "layer", "gpu", "tokens", "distinct_experts", "hits", "late", "misses",
    "start_ns", "end_ns", "stall_ns", "barrier_ns",
)  # fmt: skip
REQUESTS = (
    "request_id", "tokens", "first_ns", "last_ns", "tpot_ms", "ttft_ms", "ttft_attention_ms",
    "ttft_gate_ms", "ttft_dispatch_combine_ms", "ttft_experts_ms", "ttft_host_ms",
    "ttft_waiting_for_weights_ms", "ttft_waiting_for_gpus_ms", "ttft_waiting_for_cpu_ms",
)  # fmt: skip
MEMORY_CATEGORIES = (
    "weights", "kv_cache", "activations", "masks", "all_to_all_buffers", "expert_slots",
    "copies_in_flight",
)  # fmt: skip
MEMORY = ("time_ns", *MEMORY_CATEGORIES, "host_bytes", "capacity_bytes")
BLOCKS = (
    "first_step", "steps", "duration_ns", "tokens", "decode_tokens", "turns", "hits", "accesses",
    "access_hits", "timed_requests", "tpot_ns",
)  # fmt: skip
SPANS = ("gpu", "engine", "name", "start_ns", "end_ns", "step", "layer")

TABLES: Mapping[str, tuple[str, ...]] = {
    "steps": STEPS,
    "layers": LAYERS,
    "requests": REQUESTS,
    "memory": MEMORY,
    "blocks": BLOCKS,
    "spans": SPANS,
}
"""The tables of a result and the columns that each has at least; times in ns, memory in bytes."""

OPTIONAL = ("blocks", "spans")
"""The tables that have a file only where they have rows."""

TIME_SHARES = (
    "attention", "gate", "dispatch_combine", "experts", "host", "waiting_for_weights",
    "waiting_for_gpus", "waiting_for_cpu", "idle",
)  # fmt: skip
"""The keys of the summary's ``time_share``, in the order in which they are shown."""


def empty_table(name: str) -> pd.DataFrame:
    """The table ``name`` without rows, for what a run did not record."""
    return pd.DataFrame({column: [] for column in TABLES[name]})


@dataclass(frozen=True, eq=False)
class Result:
    """What a run found out.

    ``summary`` holds the numbers (``status`` is ``ok``, ``out_of_memory`` or ``failed``);
    ``steps``, ``layers``, ``requests``, ``memory``, ``blocks`` and ``spans`` are tables with the
    columns of ``TABLES``; ``experiment`` is the resolved experiment (after ``read_result``: plain
    values).
    """

    summary: dict[str, Any]
    experiment: BaseModel | Mapping[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    steps: pd.DataFrame = field(default_factory=lambda: empty_table("steps"))
    layers: pd.DataFrame = field(default_factory=lambda: empty_table("layers"))
    requests: pd.DataFrame = field(default_factory=lambda: empty_table("requests"))
    memory: pd.DataFrame = field(default_factory=lambda: empty_table("memory"))
    blocks: pd.DataFrame = field(default_factory=lambda: empty_table("blocks"))
    spans: pd.DataFrame = field(default_factory=lambda: empty_table("spans"))

    @property
    def status(self) -> str:
        """``ok``, ``out_of_memory`` or ``failed``."""
        return str(self.summary["status"])

    @property
    def configuration(self) -> dict[str, Any]:
        """The resolved experiment as plain values that YAML and JSON hold."""
        return plain_experiment(self.experiment)


def plain_experiment(experiment: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """``experiment`` as plain values, every default written out."""
    if isinstance(experiment, BaseModel):
        return experiment.model_dump(mode="json")
    return dict(experiment)
