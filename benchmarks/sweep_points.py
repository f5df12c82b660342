"""A sweep of 1,000 points of 1,000 tokens: time, the parent's share of it, and files.

Every CHECKED-th point must be what `des` makes of it.

python benchmarks/sweep_points.py [JOBS]
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from time import perf_counter

import pandas as pd
from agreement import must_equal

from moesim.experiment.loading.inputs import check_inputs
from moesim.experiment.loading.points import SweepPoints
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.sweep import SweepOptions, run_sweep

CHECKED = 125
SAME = ("status", "misses", "duration_ms", "mean_tpot_ms")
ENGINES = "the sweep and of des"
EXPERIMENT = {
    "name": "thousand",
    "model": "gpt-oss-20b",
    "hardware": "rtx-4090",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 4},
    "sweep": {
        "experts.capacity": [f"{slots} slots/layer" for slots in range(1, 21)],
        "experts.policy.kind": ["lru", "lfu", "fifo", "lifo", "min"],
        "workload.batching.batch_size": [1, 2, 4, 8, 16],
        "workload.batching.kind": ["static", "refill"],
    },
}


def check(points: SweepPoints, table: pd.DataFrame) -> None:
    """Raise an AssertionError where a point's row is not what `des` says."""
    for number in range(0, len(points), CHECKED):
        slow = simulate(points[number][1].model_copy(update={"engine": "des"})).summary
        for name in SAME:
            must_equal(table[name][number], slow[name], f"point {number}: {name} of {ENGINES}")


def cpu_s(who: int) -> float:
    """User and system time of this process, or of those that have ended."""
    usage = getrusage(who)
    return usage.ru_utime + usage.ru_stime


def measured(out: Path, jobs: int) -> dict[str, float]:
    """The sweep in ``out``: seconds from reading the experiment to the tables."""
    begun, before = perf_counter(), cpu_s(RUSAGE_SELF)
    resolved = load_experiment(EXPERIMENT)
    experiments = [experiment for _, experiment in resolved.points]
    check_inputs(experiments)
    table = run_sweep(resolved.experiment, resolved.points, out, options=SweepOptions(jobs=jobs))
    wall = perf_counter() - begun
    spent = (cpu_s(RUSAGE_SELF) - before, cpu_s(RUSAGE_CHILDREN))
    check(resolved.points, table)
    written = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
    return {
        "points": len(table),
        "tokens_per_point": float(table["tokens"].mean()),
        "jobs": jobs,
        "wall_s": wall,
        "parent_cpu_s": spent[0],
        "workers_cpu_s": spent[1],
        "files": len(written),
        "megabytes": sum(written) / 1e6,
    }


def main(jobs: int) -> None:
    """Print the numbers as JSON."""
    with TemporaryDirectory() as folder:
        numbers = measured(Path(folder) / "sweep", jobs)
    print(json.dumps({name: round(value, 3) for name, value in numbers.items()}, indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1)
