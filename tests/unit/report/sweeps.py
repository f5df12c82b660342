"""Sweep folders made by hand: a plausible cache of 32 experts, no engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moesim.results import Result, write_result
from moesim.sweep import run_sweep

GB = 1_000_000_000
EFFICIENCY = {"min": 1.25, "lru": 1.0, "lfu": 1.02, "fifo": 0.9, "lifo": 0.55, "random": 0.85}


def capacity_points(
    slots: tuple[int, ...] = (4, 8, 12, 16),
    policies: tuple[str, ...] = ("lru", "lfu", "lifo", "min"),
    batches: tuple[int, ...] = (),
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    points = []
    for n in slots:
        for policy in policies:
            for batch in batches or (1,):
                axes: dict[str, Any] = {
                    "experts.capacity": f"{n} slots/layer",
                    "experts.policy.kind": policy,
                }
                if batches:
                    axes["workload.batching.batch_size"] = batch
                points.append((axes, {"name": "made", "slots": n, "policy": policy, "b": batch}))
    return points


def evaluate(experiment: dict[str, Any]) -> Result:
    """A result whose misses fall with the slots; 16 slots do not fit."""
    made = summary(experiment["slots"], experiment["policy"], experiment["b"])
    return Result(made, experiment, memory=memory(made))


def summary(slots: int, policy: str, batch: int) -> dict[str, Any]:
    memory_bytes = {
        "weights": int(1.8 * GB),
        "kv_cache": GB // 10,
        "expert_slots": int(slots * 24 * 13.3e6),
    }
    peak = sum(memory_bytes.values())
    if slots >= 16:
        return {
            "name": "made", "status": "out_of_memory", "reason": "expert_slots do not fit",
            "output_throughput": None, "slots_per_layer": slots, "memory_bytes": memory_bytes,
            "peak_memory_bytes": peak,
        }  # fmt: skip
    activations = 100_000
    hit = min(1.0, (slots / 32) ** 0.6 * EFFICIENCY[policy] / batch**0.2)
    misses = round(activations * (1 - hit))
    ms = 4 + 60 * misses / activations
    waiting = (ms - 4) / ms
    return {
        "name": "made", "status": "ok", "reason": None, "tokens": 1000, "duration_ms": ms * 1000,
        "output_throughput": batch * 1e3 / ms, "mean_tpot_ms": ms, "p99_tpot_ms": 1.2 * ms,
        "hits": activations - misses, "late": 0, "misses": misses, "hit_ratio_per_expert": hit,
        "hit_ratio_per_access": hit, "stall_ms": (ms - 4) * 1000, "slots_per_layer": slots,
        "peak_memory_bytes": peak, "memory_bytes": memory_bytes,
        "time_share": {
            "attention": 0.3 * (1 - waiting), "gate": 0.05 * (1 - waiting),
            "dispatch_combine": 0.0, "experts": 0.45 * (1 - waiting), "host": 0.15 * (1 - waiting),
            "waiting_for_weights": waiting, "waiting_for_gpus": 0.0, "waiting_for_cpu": 0.0,
            "idle": 0.05 * (1 - waiting),
        },
    }  # fmt: skip


def memory(made: dict[str, Any], instants: int = 4000) -> pd.DataFrame:
    time = np.linspace(0, 2e9, instants).astype(np.int64)
    parts = made["memory_bytes"]
    zero = np.zeros(instants, dtype=np.int64)
    return pd.DataFrame(
        {
            "time_ns": time,
            "weights": zero + parts["weights"],
            "kv_cache": (parts["kv_cache"] * (time % 500_000_000) / 5e8).astype(np.int64),
            "activations": zero + 3_000_000,
            "masks": zero,
            "all_to_all_buffers": zero,
            "expert_slots": zero + parts["expert_slots"],
            "copies_in_flight": np.where(np.arange(instants) % 3 == 0, 13_300_000, 0),
            "host_bytes": zero + 12 * GB,
            "capacity_bytes": zero + 8 * 2**30,
        }
    )


def make(folder: Path, **axes: Any) -> Path:
    """A finished sweep in ``folder``."""
    experiment = {"name": "made", **axes.pop("experiment", {})}
    run_sweep(experiment, capacity_points(**axes), folder, evaluate=evaluate)
    return folder


def make_run(folder: Path, *, figures: Sequence[str] = (), **changes: Any) -> Path:
    """A run's folder; the experiment names ``figures``."""
    made = {**summary(8, "lru", 1), **changes}
    result = Result(made, {"name": "made", "figures": [*figures]}, memory=memory(made))
    return write_result(replace(result), folder)
