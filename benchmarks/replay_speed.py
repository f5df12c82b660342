"""Speed of the engine `replay`, from arrays to summary, in processor seconds; medians of several
runs, interleaved.

    python benchmarks/replay_speed.py [--repeat 5] [--tokens 50000] [--only cases]

Traces are drawn: in each layer a popularity of its own (1 / rank^0.8), tokens independent. Cases
have the prices of gpt-oss-20b on an H100 and LRU, but for `min`. `des` plays DES_TOKENS of them,
and so does `simpy loop`: what one would write first, a process that waits for the copies of an LRU
cache and for one kernel a layer, with fixed prices and nothing counted. `growth` changes one number
of the first case. Every case is first checked: `des` plays its first passes, too. `start`:
processor seconds of `moesim run` on the quickstart, with nothing compiled, then with all of it.
`memory`: the most that a process of 10 M and of 100 M accesses took. Parts that are not asked for
stay in the file as they were.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import simpy
from agreement import CHECKED, check
from numpy.typing import NDArray

from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.hardware import CostModel, load_hardware
from moesim.memory.policies import registry as policies
from moesim.metrics.block_sums import cuts_of
from moesim.metrics.summary import summary
from moesim.placement.base import plan_of_gpus
from moesim.placement.mapping import Placement
from moesim.trace import RoutingTrace
from moesim.trace.routing import Phase
from moesim.workload.batching.static import Static
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule

DES_TOKENS = 2_000
PARTS = ["cases", "engines", "growth", "start_seconds", "memory"]
FEW = 40
"""Passes that are checked of the many cases of ``growth``."""
LONGEST = 1_000
"""Tokens of a request."""
WARM_UP = 0.1
DRAWN = 100_000
"""Tokens after which a trace repeats."""


@dataclass(frozen=True)
class Shape:
    """What a case is made of."""

    tokens: int = 100_000
    layers: int = 24
    experts: int = 32
    top_k: int = 4
    slots: int = 16
    gpus: int = 1
    batch: int = 1
    policy: str = "lru"
    miss: str = "load"
    gating: str = "dynamic"
    replicas: bool = False
    """Whether each GPU holds the first expert of the next one, too."""

    @property
    def accesses(self) -> int:
        """Experts chosen by tokens."""
        return self.tokens * self.layers * self.top_k


CASES = {
    "lru": Shape(),
    "min": Shape(policy="min"),
    "streaming": Shape(slots=3),
    "batch 16": Shape(batch=16),
    "8 GPUs, batch 16": Shape(batch=16, gpus=8, slots=2),
    "static gating": Shape(gating="static"),
    "static, batch 16": Shape(gating="static", batch=16),
    "cpu": Shape(miss="cpu"),
    "cheapest": Shape(miss="cheapest"),
    "split": Shape(miss="split"),
    "arc": Shape(policy="arc"),
    "replicas, 4 GPUs": Shape(gpus=4, slots=4, replicas=True),
}
GROWTH = {
    "tokens": [25_000, 50_000, 100_000, 200_000],
    "layers": [12, 24, 48],
    "experts": [16, 32, 64, 128, 256],
    "slots": [4, 8, 16, 24, 32],
    "gpus": [1, 2, 4, 8],
}


def drawn_ids(shape: Shape) -> NDArray[np.uint16]:
    """Choices uint16[tokens, layers, k]: the largest of log popularity plus Gumbel noise."""
    rng, tokens = np.random.default_rng(0), min(shape.tokens, DRAWN)
    ids = np.empty((tokens, shape.layers, shape.top_k), np.uint16)
    for layer in range(shape.layers):
        rank = rng.permutation(shape.experts) + 1
        score = -0.8 * np.log(rank) + rng.gumbel(size=(tokens, shape.experts))
        ids[:, layer] = np.argpartition(-score, shape.top_k)[:, : shape.top_k]
    return np.ascontiguousarray(np.tile(ids, (-(-shape.tokens // tokens), 1, 1))[: shape.tokens])


def case_of(shape: Shape) -> Case:
    """Decode steps of requests of LONGEST tokens, statically batched."""
    source = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "traces/quickstart.parquet",
              "experts": {"capacity": "8 slots/layer", "miss": {"kind": shape.miss}},
              "gating": {"kind": shape.gating}}  # fmt: skip
    base = build(load_experiment(source).experiment, 1).case
    layers = [base.model.layers[i % len(base.model.layers)] for i in range(shape.layers)]
    layers = [
        replace(one, index=i, moe=replace(one.moe, experts=shape.experts, top_k=shape.top_k))
        for i, one in enumerate(layers)
        if one.moe is not None
    ]
    model = replace(base.model, layers=tuple(layers))
    number = np.arange(shape.tokens)
    numbers = range(shape.layers)
    trace = RoutingTrace(
        drawn_ids(shape), (number // LONGEST).astype(np.int32),
        (number % LONGEST).astype(np.int32), np.full(shape.tokens, Phase.DECODE, np.uint8),
        None, None, replace(base.trace.metadata, experts=shape.experts, top_k=shape.top_k,
                            moe_layer_ids=tuple(numbers)),
    )  # fmt: skip
    requests = Requests.of(trace, "decode")
    seats = Static(batch_size=shape.batch).seats(requests)
    plan = plan_of_gpus(np.arange(shape.experts) * shape.gpus // shape.experts, shape.layers)
    if shape.replicas:
        own = np.arange(shape.experts).reshape(shape.gpus, -1)
        every = np.concatenate((own, (own[:, -1:] + 1) % shape.experts), axis=1)
        plan = np.tile(every.ravel(), (shape.layers, 1))
    return replace(
        base, trace=trace, model=model, gpus=shape.gpus, policy=policies.get(shape.policy)(),
        prices=CostModel(load_hardware("h100-sxm"), model),
        schedule=Schedule.of(requests, seats, trace, shape.gpus),
        placement=Placement.of(plan, shape.gpus),
        slots=np.full((shape.gpus, shape.layers), shape.slots),
    )  # fmt: skip


def play(case: Case, run: Callable[..., Outcome] = run_replay) -> None:
    """From arrays to summary, with what ``records: summary`` keeps."""
    folded = {"cuts": cuts_of(case, WARM_UP)} if run is run_replay else {}
    summary(case, run(case, records="summary", **folded), WARM_UP)


def simpy_loop(case: Case, slots: int) -> None:
    """Bare SimPy: each layer of each token loads what it misses, then runs one kernel."""
    env = simpy.Environment()
    kept: list[OrderedDict[int, None]] = [OrderedDict() for _ in case.model.layers]

    def gpu() -> Generator[simpy.Event, None, None]:
        for token in case.trace.expert_ids[: len(case.schedule.rows)].tolist():
            for cache, needed in zip(kept, token, strict=True):
                for expert in needed:
                    if expert in cache:
                        cache.move_to_end(expert)
                        continue
                    if len(cache) >= slots:
                        cache.popitem(last=False)
                    cache[expert] = None
                    yield env.timeout(250_000)
                yield env.timeout(50_000)

    env.process(gpu())
    env.run()


def measured(jobs: Mapping[str, Callable[[], None]], repeat: int) -> dict[str, float]:
    """Median processor seconds of each job, without its first run, which compiles."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeat + 1):
        for name, job in jobs.items():
            begun = process_time()
            job()
            if turn:
                seconds[name].append(process_time() - begun)
    return {name: median(values) for name, values in seconds.items()}


def rates(shape: Shape, steps: int, seconds: float) -> dict[str, float]:
    """What is quoted of a case; ``steps``: its forward passes."""
    layer_steps = steps * shape.layers
    return {
        "seconds": seconds,
        "layer_steps": layer_steps,
        "layer_steps_a_second": layer_steps / seconds,
        "accesses_a_second": shape.accesses / seconds,
    }


def measure_cases(
    shapes: dict[str, Shape], repeat: int, first: int = CHECKED
) -> dict[str, dict[str, float]]:
    """Rates of replay for each shape, once its ``first`` passes are checked."""
    cases = {name: case_of(shape) for name, shape in shapes.items()}
    for name, case in cases.items():
        check(case, f"{name}: {shapes[name]}", first)
    jobs = {name: partial(play, case) for name, case in cases.items()}
    seconds = measured(jobs, repeat)
    return {
        name: rates(shape, cases[name].schedule.passes, seconds[name])
        for name, shape in shapes.items()
    }


def measure_engines(repeat: int) -> dict[str, dict[str, float]]:
    """The first case by each engine, as layer-steps a second."""
    shape = Shape(tokens=DES_TOKENS)
    long, short = case_of(Shape()), case_of(shape)
    jobs = {
        "replay": lambda: play(long),
        "des": lambda: play(short, run_des),
        "simpy loop": lambda: simpy_loop(short, shape.slots),
    }
    seconds = measured(jobs, repeat)
    found = {"replay": rates(Shape(), Shape().tokens, seconds["replay"])}
    for name in ("des", "simpy loop"):
        found[name] = rates(shape, shape.tokens, seconds[name])
        found[name]["times_slower"] = (
            found["replay"]["layer_steps_a_second"] / found[name]["layer_steps_a_second"]
        )
    return found


def measure_growth(repeat: int, tokens: int) -> dict[str, dict[str, dict[str, float]]]:
    """Rates as one number changes."""
    base, found = Shape(tokens=tokens), {}
    for name, values in GROWTH.items():
        changed: dict[str, Any] = {str(value): {name: value} for value in values}
        shapes = {value: replace(base, **change) for value, change in changed.items()}
        found[name] = measure_cases(shapes, repeat, FEW)
    return found


def measure_start() -> dict[str, float]:
    """Processor seconds of a command: nothing compiled, then all of it."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "later"):
            command = "from moesim.cli.main import main; main(['run', 'experiments/quickstart.yaml'"
            command += f", '--out', {str(Path(folder) / name)!r}])"
            environment = os.environ | {"NUMBA_CACHE_DIR": f"{folder}/compiled"}
            begun = os.times()
            subprocess.run(
                [sys.executable, "-c", command], check=True, capture_output=True, env=environment
            )
            ended = os.times()
            found[name] = ended.children_user - begun.children_user
            found[name] += ended.children_system - begun.children_system
    return found


def measure_memory() -> dict[str, dict[str, int]]:
    """Largest resident set of a process that plays so many accesses, before and after, in bytes."""
    found = {}
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    for policy, accesses in product(("lru", "min"), (10_000_000, 100_000_000)):
        code = f"import replay_speed; replay_speed.take_memory({accesses}, {policy!r})"
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=here
        )
        found[f"{policy}, {accesses}"] = json.loads(done.stdout)
    return found


def take_memory(accesses: int, policy: str) -> None:
    """Play so many accesses and print what memory that took."""
    shape = Shape(tokens=accesses // (Shape.layers * Shape.top_k), policy=policy)
    case = case_of(shape)
    before, begun = most_memory(), process_time()
    play(case)
    found = {"seconds": process_time() - begun, "before_bytes": before}
    found |= {"most_bytes": most_memory(), "trace_bytes": case.trace.expert_ids.nbytes}
    print(json.dumps(found))


def most_memory() -> int:
    """The largest resident set of this process so far (Linux), in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (most,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(most) * 1024


def show(title: str, found: dict[str, Any]) -> None:
    """A line for each case, or for all of what is no rate."""
    print(title, flush=True)
    for name, rate in found.items():
        if not (isinstance(rate, dict) and "layer_steps" in rate):
            print(f"  {name:18} {rate}", flush=True)
            continue
        times = f", {rate['times_slower']:,.0f} x slower" if "times_slower" in rate else ""
        print(
            f"  {name:18} {rate['seconds']:7.3f} s: {rate['layer_steps_a_second'] / 1e6:8.3f} M"
            f" layer-steps/s, {rate['accesses_a_second'] / 1e6:7.2f} M accesses/s{times}",
            flush=True,
        )


def main() -> None:
    """Measure, print, and write benchmarks/results/replay_speed.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=50_000, help="of the growth cases")
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS, metavar="PART")
    options = parser.parse_args()
    path = Path(__file__).parent / "results" / "replay_speed.json"
    result: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    result |= {"machine": platform.machine(), "processor": platform.processor()}
    result["python"] = platform.python_version()
    parts: dict[str, Callable[[], Any]] = {
        "cases": lambda: measure_cases(CASES, options.repeat),
        "engines": lambda: measure_engines(options.repeat),
        "growth": lambda: measure_growth(options.repeat, options.tokens),
        "start_seconds": measure_start,
        "memory": measure_memory,
    }
    for name in options.only:
        result[name] = found = parts[name]()
        for title, rows in found.items() if name == "growth" else [(name, found)]:
            show(title, rows)
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
