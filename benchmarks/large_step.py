"""Time to simulate one step of DeepSeek-V3 on 256 GPUs: 58 MoE layers of 256 experts each.

Writes results/large_step.json: a row for each engine, gating and number of requests a GPU; the best
of three. ``engine_s`` is what the engine takes, from counting the experts to the last nanosecond;
``build_s`` what comes before (schedule, placement, memory), the trace apart. Both engines must
agree before either is printed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from agreement import must_agree

from moesim.engine.outcome import Outcome
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.engines import Engine
from moesim.experiment.schema.experiment import Experiment
from moesim.model import load_model
from moesim.trace import RoutingTrace, TraceMetadata, write_trace
from moesim.trace.routing import Phase

OUT = Path(__file__).parent / "results" / "large_step.json"
MODEL, GPUS, TIMES = "deepseek-v3", 256, 3
ENGINES = ("replay", "des")
POINTS = [(gating, requests) for gating in ("dynamic", "no_drop") for requests in (1, 16, 64)]


def trace_of(requests: int, seed: int = 0) -> RoutingTrace:
    """One decode token of each request; every expert equally likely."""
    model = load_model(MODEL)
    moe = model.moe_layers[0].moe
    assert moe is not None, "a MoE layer"
    layers = tuple(layer.index for layer in model.moe_layers)
    rng = np.random.default_rng(seed)
    first = rng.integers(0, moe.experts, (requests, len(layers), 1))
    steps = np.arange(moe.top_k) * (moe.experts // moe.top_k)
    ids = ((first + steps) % moe.experts).astype(np.uint16)
    return RoutingTrace(
        expert_ids=ids,
        request_id=np.arange(requests, dtype=np.int32),
        position=np.full(requests, 1000, np.int32),
        phase=np.full(requests, Phase.DECODE, np.uint8),
        gate_weights=None,
        predicted_ids=None,
        metadata=TraceMetadata(MODEL, moe.experts, moe.top_k, layers, "uniform", "none", "none"),
    )


def experiment_of(path: Path, gating: str, requests: int) -> Experiment:
    """All requests in one step."""
    return load_experiment(
        {
            "model": MODEL,
            "hardware": "dgx-h100",
            "trace": str(path),
            "workload": {"batching": {"kind": "static", "batch_size": requests * GPUS}},
            "parallelism": {"expert": GPUS},
            "gating": {"kind": gating},
        }
    ).experiment


def measured(engine: str, gating: str, requests: int, path: Path) -> tuple[dict[str, Any], Outcome]:
    """One row, and the outcome that it is of."""
    experiment = experiment_of(path, gating, requests)
    build_s, engine_s = [], []
    for _ in range(TIMES):
        begun = perf_counter()
        case = build(experiment).case
        build_s.append(perf_counter() - begun)
        begun = perf_counter()
        outcome = Engine(engine, "asked for").play(case, records="step", check=False)
        engine_s.append(perf_counter() - begun)
    row: dict[str, Any] = {
        "engine": engine,
        "gating": gating,
        "requests_per_gpu": requests,
        "step_ms": round(outcome.duration_ns / 1e6, 3),
        "build_s": round(min(build_s), 2),
        "engine_s": round(min(engine_s), 2),
    }
    return row, outcome


def main() -> None:
    """Measure all points and write the table."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for gating, requests in POINTS:
            path = Path(folder) / f"{requests}.parquet"
            if not path.exists():
                write_trace(trace_of(requests * GPUS), path)
            found = [measured(engine, gating, requests, path) for engine in ENGINES]
            (_, mine), (_, theirs) = found
            must_agree(mine, theirs, f"{gating}, {requests} requests a GPU")
            rows += [row for row, _ in found]
            print(*rows[-2:], sep="\n", flush=True)
    rows.sort(key=lambda row: ENGINES.index(row["engine"]))
    OUT.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
