"""Speed of runs that serve requests, from the experiment to its numbers, in processor seconds;
medians of several runs, interleaved.

    python benchmarks/serving_speed.py [--repeat 3] [--requests 200] [--profile]

Prompts of 1,024 tokens, answers of 256, 48 layers of 128 experts, of which each token takes 8,
drawn for the model (the recording in `traces/` has 6, and so few rows that 64 slots hardly miss),
on an H100, under vLLM's scheduler. `loop`: a closed loop of 64 clients, whose batches are known
before the run; `timed`: the same, but clients think for a microsecond, so that the clock decides
each batch; `poisson`: 8 requests/s. With all
experts resident, 64 of 128 slots a layer, or half of the layers on the CPU. Every case is first
checked: of its first CHECKED requests `des` must make the same steps, to the nanosecond, and a run
must give every token that was asked for.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import pstats
import time
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from agreement import must_agree, must_equal

from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.experiment.schema.experiment import Experiment

CHECKED = 12
PROMPT, ANSWER, CLIENTS = 1_024, 256, 64
MODEL = "qwen3-30b-a3b"
ARRIVALS: dict[str, dict[str, Any]] = {
    "loop": {"kind": "closed_loop", "max_concurrency": CLIENTS},
    "timed": {"kind": "closed_loop", "max_concurrency": CLIENTS, "think_time": "1 us"},
    "poisson": {"kind": "poisson", "request_rate": "8 requests/s"},
}
EXPERTS: dict[str, dict[str, Any]] = {
    "all": {"capacity": "all"},
    "64 slots": {"capacity": "64 slots/layer"},
    "24 layers on CPU": {"on_cpu": {"layers": 24}},
}


def experiment(arrivals: str, experts: str, requests: int, answer: int = ANSWER) -> Experiment:
    """So many requests."""
    source = {
        "model": MODEL, "hardware": "h100-sxm", "records": "summary",
        "experts": EXPERTS[experts],
        "workload": {
            "requests": requests, "arrivals": ARRIVALS[arrivals],
            "lengths": {"kind": "fixed", "input_len": PROMPT, "output_len": answer},
            "routing": {"kind": "draw"},
            "batching": {"kind": "continuous",
                         "scheduler": {"kind": "vllm", "max_num_seqs": CLIENTS}},
        },
    }  # fmt: skip
    return load_experiment(source).experiment


def check(arrivals: str, experts: str, requests: int) -> int:
    """Compare a short run with `des`; the steps of the whole one, which gives all tokens."""

    def case() -> Case:
        return build(experiment(arrivals, experts, CHECKED, ANSWER // 8)).case

    what = f"{arrivals}, {experts}"
    must_agree(run_replay(case(), records="summary"), run_des(case(), records="summary"), what)
    whole = simulate(experiment(arrivals, experts, requests)).summary
    for name, value in (("completed", requests), ("total_output_tokens", requests * ANSWER)):
        must_equal(whole[name], value, f"{what}: {name} and what was asked for")
    return int(whole["steps"])


def measured(jobs: dict[str, Any], repeat: int) -> dict[str, float]:
    """Median processor seconds of each job."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _, (name, job) in product(range(repeat), jobs.items()):
        begun = time.process_time()
        job()
        seconds[name].append(time.process_time() - begun)
    return {name: median(values) for name, values in seconds.items()}


def main() -> None:
    """Measure, print, and write benchmarks/results/serving_speed.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--profile", action="store_true", help="profile the case 'timed, all'")
    options = parser.parse_args()
    every = {f"{one}, {two}": (one, two) for one, two in product(ARRIVALS, EXPERTS)}
    if options.profile:
        one = experiment("timed", "all", options.requests)
        with cProfile.Profile(time.process_time) as profile:
            simulate(one)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        return
    steps = {name: check(*case, options.requests) for name, case in every.items()}
    jobs = {
        name: partial(simulate, experiment(*case, options.requests)) for name, case in every.items()
    }
    seconds = measured(jobs, options.repeat)
    result = {"machine": platform.machine(), "requests": options.requests, "cases": {
        name: {"seconds": seconds[name], "steps": steps[name]} for name in every
    }}  # fmt: skip
    for name in every:
        each = seconds[name] / steps[name]
        print(f"{name:26} {seconds[name]:7.3f} s, {steps[name]:6} steps, {each * 1e3:.2f} ms each")
    path = Path(__file__).parent / "results" / "serving_speed.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
