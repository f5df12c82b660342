"""One command over 100 configurations of 100,000 tokens: its time, start and tables included.

python benchmarks/hundred_configurations.py [JOBS] [TRACE]

The trace is synthesised from the shipped one (`trace fit`, `trace synthesize`), unless one is
named. Capacities, policies and batch sizes are swept on the command line, as a user would. The
misses must be those of the curves, which know no engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory
from time import perf_counter

from agreement import must_equal

import moesim
from moesim.experiment.questions.curves import WHOLE

MOESIM = str(Path(sys.executable).with_name("moesim"))
TOKENS = 100_000
CAPACITIES = range(4, 24, 2)
EXPERIMENT = """\
name: hundred
model: gpt-oss-20b
hardware: h100-sxm
trace: {trace}
records: summary
sweep:
  experts.capacity: [{capacities}]
  experts.policy.kind: [lru, lfu, fifo, lifo, min]
  workload.batching.batch_size: [1, 16]
"""


def command(*arguments: str) -> None:
    """One command; it fails loudly."""
    subprocess.run([MOESIM, *arguments], check=True, stdout=subprocess.DEVNULL)


def trace_in(folder: Path) -> Path:
    """A trace of TOKENS tokens that behaves like the shipped one."""
    parameters, trace = folder / "parameters.yaml", folder / "trace.parquet"
    command("trace", "fit", "traces/quickstart.parquet", "-o", str(parameters))
    command("trace", "synthesize", str(parameters), "--tokens", str(TOKENS), "-o", str(trace))
    return trace


def check(sweep: Path, trace: Path) -> None:
    """Raise an AssertionError where misses are not those of the curves over all slot counts."""
    points = moesim.read_sweep(sweep).table
    for batch, rows in points.groupby("workload.batching.batch_size"):
        kinds = list(dict.fromkeys(rows["experts.policy.kind"]))
        curves = moesim.curve(trace, policy=kinds, batch=int(str(batch)))
        known = curves[curves["layer"] == WHOLE].set_index(["policy", "slots"])["misses"]
        places = zip(rows["experts.policy.kind"], rows["slots_per_layer"], strict=True)
        expected = [known[place] for place in places]
        must_equal(rows["misses"].to_numpy(), expected, f"misses at batch {batch}, run and curve")


def measured(folder: Path, jobs: int, trace: Path) -> dict[str, float | int]:
    """Seconds of the sweep, and of processors, from the shell's point of view."""
    experiment = folder / "hundred.yaml"
    capacities = ", ".join(f"{slots} slots/layer" for slots in CAPACITIES)
    experiment.write_text(EXPERIMENT.format(trace=trace, capacities=capacities), encoding="utf-8")
    before, begun = getrusage(RUSAGE_CHILDREN), perf_counter()
    command("sweep", str(experiment), "--out", str(folder / "out"), "-j", str(jobs))
    wall, after = perf_counter() - begun, getrusage(RUSAGE_CHILDREN)
    check(folder / "out", trace)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"jobs": jobs, "wall_s": wall, "processor_s": spent, "load": os.getloadavg()[0]}


def main() -> None:
    """Print and write the numbers."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1
    with TemporaryDirectory() as name:
        folder = Path(name)
        trace = Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else trace_in(folder)
        numbers = measured(folder, jobs, trace)
    print(json.dumps(numbers, indent=2))
    target = Path(__file__).parent / "results" / "hundred_configurations.json"
    target.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
