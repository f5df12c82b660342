"""Speed of the `des` engine in layer-steps a second; medians of several runs, interleaved.

    python benchmarks/engine_speed.py [TRACE.parquet] [--repeat 5] [--profile]

A layer-step is one MoE layer of one forward pass. `nothing waits`: all experts are resident, one
event a pass. `copies`: 8 slots a layer under LRU. `expert detail`: the same with a record of every
copy and kernel. Every outcome must be that of `replay`.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import pstats
from pathlib import Path
from statistics import median
from time import perf_counter

from agreement import must_agree

from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.building.built import Built
from moesim.experiment.loading.resolve import load_experiment

CASES = {
    "nothing waits": ("all", "step"),
    "copies": ("8 slots/layer", "step"),
    "expert detail": ("8 slots/layer", "expert"),
}


def built(trace: str, capacity: str) -> Built:
    """gpt-oss-20b at batch 1 on an H100."""
    experiment = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": trace}
    return build(load_experiment(experiment, [f"experts.capacity={capacity}"]).experiment)


def measure(trace: str, repeat: int) -> dict[str, dict[str, float]]:
    """Seconds and layer-steps a second of each case, without its first run, which compiles."""
    cases = {name: (built(trace, capacity), records) for name, (capacity, records) in CASES.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    other = {name: run_replay(one.case, records="step") for name, (one, _) in cases.items()}
    for turn in range(repeat + 1):
        for name, (case, records) in cases.items():
            begun = perf_counter()
            outcome = run_des(case.case, records=records)
            spent = perf_counter() - begun
            must_agree(outcome, other[name], name)
            if turn:
                seconds[name].append(spent)
    rates = {}
    for name, (case, _) in cases.items():
        layer_steps = case.case.schedule.passes * len(case.case.model.moe_layers)
        spent = median(seconds[name])
        rates[name] = {"seconds": spent, "layer_steps": layer_steps, "rate": layer_steps / spent}
    return rates


def main() -> None:
    """Measure, print, and write benchmarks/results/engine_speed.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", nargs="?", default="traces/quickstart.parquet")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="profile the copies case")
    options = parser.parse_args()
    if options.profile:
        case = built(options.trace, "8 slots/layer").case
        with cProfile.Profile() as profile:
            run_des(case, records="step")
        pstats.Stats(profile).sort_stats("tottime").print_stats(15)
        return
    rates = measure(options.trace, options.repeat)
    slowest = min(rate["rate"] for rate in rates.values())
    for name, rate in rates.items():
        print(
            f"{name:14} {rate['layer_steps']:>9,} layer-steps in {rate['seconds']:6.2f} s: "
            f"{rate['rate']:>9,.0f} a second, {rate['rate'] / slowest:.1f} x"
        )
    result = {"machine": platform.machine(), "python": platform.python_version(), "cases": rates}
    folder = Path("benchmarks/results")
    folder.mkdir(exist_ok=True)
    (folder / "engine_speed.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
