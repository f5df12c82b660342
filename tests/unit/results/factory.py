"""Small, plausible results made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moesim.results import Result
from moesim.results.result import LAYERS, MEMORY, REQUESTS, SPANS, STEPS

MILLION = 1_000_000


def summary(status: str = "ok", **changes: Any) -> dict[str, Any]:
    """The keys of a run's summary with the numbers of a small one."""
    numbers: dict[str, Any] = {
        "name": "small",
        "status": "ok",
        "engine": "des",
        "tokens": 40,
        "steps": 10,
        "duration_ms": 80.0,
        "output_throughput": 500.0,
        "mean_tpot_ms": 8.0,
        "p50_tpot_ms": 8.0,
        "p99_tpot_ms": 9.0,
        "hits": 60,
        "late": 0,
        "misses": 40,
        "hit_ratio_per_expert": 0.6,
        "hit_ratio_per_access": 0.7,
        "bytes_h2d": 40 * MILLION,
        "stall_ms": 20.0,
        "barrier_ms": 0.0,
        "dropped_choices": 0,
        "padding_ratio": 0.0,
        "balancedness": 0.8,
        "peak_memory_bytes": 6_000 * MILLION,
        "memory_bytes": {"weights": 4_000 * MILLION, "expert_slots": 2_000 * MILLION},
        "time_share": {
            "attention": 0.2,
            "gate": 0.05,
            "dispatch_combine": 0.05,
            "experts": 0.3,
            "host": 0.1,
            "waiting_for_weights": 0.25,
            "waiting_for_gpus": 0.0,
            "waiting_for_cpu": 0.0,
            "idle": 0.05,
        },
        "layer_steps": 20,
        "engine_wall_s": 0.01,
        "slots_per_layer": 8,
    }
    if status == "out_of_memory":
        kept = {"name", "memory_bytes", "peak_memory_bytes", "engine", "slots_per_layer"}
        numbers = {k: v if k in kept else None for k, v in numbers.items()}
        numbers["time_share"] = None
        numbers["reason"] = "expert_slots: 9.0 GB do not fit in 8.0 GB"
    return {**numbers, "status": status, **changes}


def steps(n: int = 10) -> pd.DataFrame:
    table = pd.DataFrame(np.ones((n, len(STEPS)), dtype=np.int64), columns=list(STEPS))
    table["step"] = np.arange(n)
    table["phase"] = "decode"
    table["start_ns"], table["end_ns"] = (
        table["step"] * 8 * MILLION,
        (table["step"] + 1) * 8 * MILLION,
    )
    return table


def memory(n: int = 10) -> pd.DataFrame:
    table = pd.DataFrame(np.zeros((n, len(MEMORY)), dtype=np.int64), columns=list(MEMORY))
    table["time_ns"] = np.arange(n) * 8 * MILLION
    table["weights"], table["capacity_bytes"] = 4_000 * MILLION, 8_000 * MILLION
    table["kv_cache"] = np.arange(n) * 100 * MILLION
    table["expert_slots"] = 2_000 * MILLION
    return table


def spans(steps: int = 4, gpus: int = 2) -> pd.DataFrame:
    """Back-to-back spans with odd nanoseconds: compute always, a copy in each step."""
    rows = [
        (gpu, engine, *what, step * 9_001 + start, step * 9_001 + end, step, 0, *moved)
        for step in range(steps)
        for gpu in range(gpus)
        for engine, *what, start, end, moved in (
            ("compute", "attention", "attention", 0, 3_333, ("", 0)),
            ("compute", "experts", "experts", 3_333, 9_001, ("1,4", 0)),
            ("copy_in", "copy", "copy", 1_001, 3_333, ("4", 7_000)),
        )
    ]
    return pd.DataFrame(rows, columns=list(SPANS))


def result(status: str = "ok", *, with_spans: bool = False, **changes: Any) -> Result:
    """A result as a run gives it; ``changes`` go to its summary."""
    ran = status == "ok"
    return Result(
        summary=summary(status, **changes),
        experiment={"name": "small", "trace": "a.parquet", "seed": 7, "records": "layer"},
        provenance={"seed": 7},
        steps=steps() if ran else steps(0),
        layers=pd.DataFrame({name: [1, 2] for name in LAYERS}),
        requests=pd.DataFrame({name: [1, 2] for name in REQUESTS}),
        memory=memory(),
        spans=spans() if with_spans else spans(0),
    )
