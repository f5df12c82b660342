"""Speed of `replay` under every cache policy, from arrays to summary, as ratios to LRU in one run.

    python benchmarks/policy_speed.py [--repeat 5] [--tokens 20000]

The case is the first of `replay_speed.py`, with gate weights. Medians of processor seconds, and of
their ratios to LRU's, which is played anew before each. Each policy is first checked: `des` plays
its first passes, too.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
from agreement import check
from replay_speed import Shape, case_of, play

from moesim.engine.case import Case
from moesim.memory.policies import registry as policies


def weighted(case: Case) -> Case:
    """``case`` with drawn gate weights in its trace."""
    drawn = np.random.default_rng(1).random(case.trace.expert_ids.shape).astype(np.float16)
    return replace(case, trace=replace(case.trace, gate_weights=drawn))


def seconds_of(case: Case) -> float:
    """Processor seconds of ``case``."""
    begun = process_time()
    play(case)
    return process_time() - begun


def main() -> None:
    """Check, measure, print, and write benchmarks/results/policy_speed.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=20_000)
    options = parser.parse_args()
    shape, kinds = Shape(tokens=options.tokens), list(policies.components)
    cases = {kind: weighted(case_of(replace(shape, policy=kind))) for kind in kinds}
    for kind, case in cases.items():
        check(case, kind)
        play(case)
    pairs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(options.repeat):
        for kind in kinds:
            pairs[kind].append((seconds_of(cases["lru"]), seconds_of(cases[kind])))
    found = {
        kind: {
            "ns_an_access": median(own for _, own in of_kind) / shape.accesses * 1e9,
            "times_lru": median(own / lru for lru, own in of_kind),
        }
        for kind, of_kind in pairs.items()
    }
    found = dict(sorted(found.items(), key=lambda one: one[1]["times_lru"]))
    for kind, one in found.items():
        print(f"{kind:12} {one['ns_an_access']:8.1f} ns an access, {one['times_lru']:6.2f} x lru")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "policy_speed.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
