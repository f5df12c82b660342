"""Seconds that planners take for DeepSeek-V3: 58 MoE layers of 256 experts on 32 GPUs.

    python benchmarks/placement_speed.py [--repeat 5] [--batches 64]

Choices are drawn from a Zipf popularity, another one in each layer. `eplb` makes 288 physical
experts, over 4 nodes in 8 groups (hierarchical) or without nodes (global). Medians. Every plan must
keep the planners' contract.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

import numpy as np

from moesim.placement.affinity import Affinity
from moesim.placement.anti_correlation import AntiCorrelation
from moesim.placement.base import Planner
from moesim.placement.eplb import Eplb
from moesim.placement.greedy import Greedy
from moesim.placement.local_search import LocalSearch
from moesim.placement.task import Task
from moesim.testing.planners import bounds_what_it_reaches, places_every_expert

LAYERS, EXPERTS, GPUS, TOP_K, TOKENS = 58, 256, 32, 8, 512
PLANNERS: dict[str, Planner] = {
    "eplb hierarchical": Eplb(redundant=32, groups=8, nodes=4),
    "eplb global": Eplb(redundant=32),
    "greedy": Greedy(),
    "anti_correlation": AntiCorrelation(),
    "affinity": Affinity(),
    "local_search, 1 round": LocalSearch(rounds=1),
}


def task(batches: int) -> Task:
    """Choices of ``batches`` passes of 512 tokens, and the ids of 4096 tokens."""
    random = np.random.default_rng(0)
    popular = random.zipf(1.6, (LAYERS, EXPERTS)).clip(max=100).astype(float)
    popular /= popular.sum(axis=1, keepdims=True)
    counts = random.poisson(TOKENS * TOP_K * popular, (batches, LAYERS, EXPERTS))
    ids = random.integers(0, EXPERTS, (4096, LAYERS, TOP_K)).astype(np.uint16)
    return Task(GPUS, counts, ids)


def seconds(planner: Planner, question: Task) -> float:
    """Of one plan."""
    begun = perf_counter()
    planner.place(question)
    return perf_counter() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--batches", type=int, default=64)
    chosen = parser.parse_args()
    question = task(chosen.batches)
    for name, planner in PLANNERS.items():
        places_every_expert(planner, question)
        bounds_what_it_reaches(planner, question)
        spent = median(seconds(planner, question) for _ in range(chosen.repeat))
        print(f"{name:24} {spent:8.4f} s")


if __name__ == "__main__":
    main()
