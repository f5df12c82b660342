"""Speed of miss-ratio curves, all sizes at once, beside cache libraries, in processor seconds;
medians of several runs.

    python benchmarks/curve_speed.py [TRACE.parquet] [--repeat 5] [--libraries PYTHON]

The trace is repeated to TOKENS tokens and decoded at batch 1. `step`: the rule of a run. `needs`:
what each layer needs, from the trace. The libraries replay each size on its own, and count by the
textbook: no expert of a step is protected, so theirs is compared with `--rule textbook`, on the
same accesses in the same order. libcachesim (LRU, Belady) replays all layers of the trace as it is,
moe-policylang (topk_lru, belady; top-1, one access a step) its first layer. PYTHON is an
interpreter that has them: pip install 'moesim[bench]', in an environment of its own if need be.

Misses must be those of a cache that decides one activation after another, in the first CHECKED
steps of a layer, and those of the libraries at every size.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
from agreement import must_equal

from moesim.experiment.questions.curves import POLICIES
from moesim.memory.activations import ActiveExperts
from moesim.memory.curves.active_experts import layer_active_experts, one_by_one
from moesim.memory.curves.curve import miss_curve
from moesim.memory.policies import registry
from moesim.testing.audit import Setting
from moesim.testing.cache_policies import misses_of
from moesim.trace import RoutingTrace, read_trace
from moesim.workload.batching.static import Static
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule

TOKENS = 100_000
CHECKED = 500
OURS = {"lru": "lru", "belady": "min"}

LIBCACHESIM = """
import json, sys, time
import numpy as np, libcachesim
from libcachesim import TraceReader, TraceType
policies = {"lru": libcachesim.LRU, "belady": libcachesim.Belady}
record = [("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")]
layers, experts, readers = np.load(sys.argv[1]), int(sys.argv[2]), []
for number, accesses in enumerate(layers):
    rows, following = np.ones(len(accesses), record), {}
    rows["time"], rows["id"] = np.arange(len(accesses)) // 1000, accesses + 1
    for at in range(len(accesses) - 1, -1, -1):
        rows["next"][at] = following.get(accesses[at], -1)
        following[accesses[at]] = at
    path = f"{sys.argv[1]}.{number}.oracleGeneral"
    rows.tofile(path)
    readers.append(TraceReader(path, TraceType.ORACLE_GENERAL_TRACE))
for name, policy in policies.items():
    misses, begun = np.zeros(experts), time.process_time()
    for reader in readers:
        for size in range(1, experts + 1):
            reader.reset()
            ratio, _ = policy(cache_size=size, hashpower=8).process_trace(reader)
            misses[size - 1] += ratio * layers.shape[1]
    spent = time.process_time() - begun
    print(json.dumps([name, spent, misses.round().astype(int).tolist()]))
"""

POLICYLANG = """
import json, sys, time
import numpy as np
from moe_policylang.benchmark.replay import policy_belady, policy_topk_lru
policies = {"lru": policy_topk_lru, "belady": policy_belady}
layers, experts = np.load(sys.argv[1]), int(sys.argv[2])
for name, policy in policies.items():
    weights, begun, misses = np.eye(experts, dtype=np.float32)[layers[0]], time.process_time(), []
    for size in range(1, experts + 1):
        hits, accesses = policy(weights, 1, size)
        misses.append(accesses - hits)
    print(json.dumps([name, time.process_time() - begun, misses]))
"""


def schedule_of(trace: RoutingTrace) -> Schedule:
    """Decode passes of one token."""
    requests = Requests.of(trace, "decode")
    return Schedule.of(requests, Static(batch_size=1).seats(requests), trace, gpus=1)


def repeated(short: RoutingTrace) -> RoutingTrace:
    """The trace again and again, up to TOKENS, as new requests."""
    rows = np.arange(TOKENS) % short.tokens
    copy = (np.arange(TOKENS) // short.tokens).astype(np.int32)
    return replace(
        short,
        expert_ids=short.expert_ids[rows],
        request_id=short.request_id[rows] + copy * np.int32(1 << 20),
        position=short.position[rows],
        phase=short.phase[rows],
        gate_weights=None,
        predicted_ids=None,
    )


def curves(kind: str, layers: list[ActiveExperts], usage: np.ndarray) -> list[int]:
    """Misses over ``layers`` with 1, 2, ... slots each."""
    policy = registry.get(kind)()
    found = np.stack(
        [miss_curve(policy, active_experts, usage).misses for active_experts in layers]
    )
    return [int(misses) for misses in found.sum(axis=0)]


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one run."""
    begun = process_time()
    work()
    return process_time() - begun


def check(trace: RoutingTrace, schedule: Schedule) -> None:
    """Raise an AssertionError where a curve is not what a cache of each size counts."""
    active_experts = layer_active_experts(trace, schedule, 0).between(0, CHECKED)
    steps = [
        part.tolist() for part in np.split(active_experts.experts, active_experts.offsets[1:-1])
    ]
    uses = tuple(np.bincount(trace.expert_ids[:, 0].ravel(), minlength=trace.experts).tolist())
    for kind in POLICIES:
        settings = [Setting(trace.experts, n + 1, uses=uses) for n in range(trace.experts)]
        counted = [misses_of(registry.get(kind)(), steps, setting) for setting in settings]
        must_equal(curves(kind, [active_experts], np.array(uses)), counted, f"misses under {kind}")


def by_step(trace: RoutingTrace, repeat: int) -> dict[str, dict[str, float]]:
    """Accesses a second of every policy under the rule of a run, without what compiles."""
    schedule, usage = schedule_of(trace), np.bincount(trace.expert_ids[:, 0].ravel())
    layers: list[ActiveExperts] = []
    check(trace, schedule)

    def active_experts() -> None:
        layers[:] = [
            layer_active_experts(trace, schedule, layer) for layer in range(trace.moe_layers)
        ]

    works: dict[str, Callable[[], object]] = {"active_experts": active_experts}
    works |= {kind: lambda kind=kind: curves(kind, layers, usage) for kind in POLICIES}  # type: ignore[misc]
    taken: dict[str, list[float]] = {name: [] for name in works}
    active_experts()
    for kind in POLICIES:
        curves(kind, [layers[0].between(0, 8)], usage)
    for _ in range(repeat):
        for name, work in works.items():
            taken[name].append(seconds(work))
    accesses = sum(len(one.experts) for one in layers)
    spent = {name: median(times) for name, times in taken.items()}
    return {name: {"seconds": s, "rate": accesses / s} for name, s in spent.items()}


def library(python: str, code: str, path: Path, experts: int) -> dict[str, tuple[float, list[int]]]:
    """Seconds and misses by size of each policy; nothing where the library is not installed."""
    command = [python, "-c", code, str(path), str(experts)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        return {}
    if done.returncode:
        raise RuntimeError(done.stderr)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {name: (spent, misses) for name, spent, misses in rows}


def beside(
    layers: list[ActiveExperts], python: str, code: str, experts: int, repeat: int
) -> dict[str, dict[str, float]]:
    """A library and moesim in turn on the same accesses, by the textbook rule."""
    accesses, usage = sum(len(one.experts) for one in layers), np.zeros(experts, np.int64)
    taken: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "accesses.npy"
        np.save(path, np.stack([one.experts for one in layers]))
        for _ in range(repeat):
            for name, (theirs, misses) in library(python, code, path, experts).items():
                ours = seconds(lambda name=name: curves(OURS[name], layers, usage))  # type: ignore[misc]
                taken.setdefault(name, []).append((theirs, ours))
                must_equal(curves(OURS[name], layers, usage), misses, f"misses under {name}")
    found: dict[str, dict[str, float]] = {}
    for name, times in taken.items():
        theirs, ours = (median(column) for column in zip(*times, strict=True))
        found[name] = {
            "accesses": accesses, "their_seconds": theirs, "our_seconds": ours,
            "their_rate": accesses / theirs, "our_rate": accesses / ours,
            "ratio": theirs / ours,
        }  # fmt: skip
    return found


def main() -> None:
    """Measure, print, and write benchmarks/results/curve_speed.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", nargs="?", default="traces/quickstart.parquet")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--libraries", default=sys.executable, metavar="PYTHON")
    options = parser.parse_args()
    short = read_trace(options.trace)
    step = by_step(repeated(short), options.repeat)
    for name, row in step.items():
        print(f"step rule  {name:8} {row['rate'] / 1e6:8.1f} M accesses/s, all sizes at once")
    schedule = schedule_of(short)
    layers = [one_by_one(layer_active_experts(short, schedule, n)) for n in range(short.moe_layers)]
    libraries = {
        "libcachesim": (LIBCACHESIM, layers),
        "moe-policylang": (POLICYLANG, layers[:1]),
    }
    textbook = {
        name: beside(some, options.libraries, code, short.experts, options.repeat)
        for name, (code, some) in libraries.items()
    }
    for library_name, policies in textbook.items():
        hint = "" if policies else ": not installed; pip install 'moesim[bench]', or --libraries"
        print(f"textbook   {library_name}{hint}")
        for name, row in policies.items():
            print(
                f"           {name:8} {row['their_rate'] / 1e6:8.3f} M accesses/s, moesim "
                f"{row['our_rate'] / 1e6:.1f}: {row['ratio']:,.0f} x; equal misses at every size"
            )
    result = {
        "machine": platform.machine(), "python": platform.python_version(),
        "trace": Path(options.trace).name, "experts": short.experts, "step": step,
        "textbook": textbook,
    }  # fmt: skip
    folder = Path("benchmarks/results")
    folder.mkdir(exist_ok=True)
    (folder / "curve_speed.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
