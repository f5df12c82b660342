"""Speed of `replay` under every cache policy, from arrays to summary, as ratios to LRU in one run.

    python benchmarks/policy_speed.py [--repeat 5] [--tokens 20000]

The case is the first of `replay_speed.py`, with gate weights. Medians of processor seconds, the
policies in turn. Each policy is first checked: `des` plays its first passes, too.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from agreement import check
from replay_speed import Shape, case_of, measured, play

from moesim.engine.case import Case
from moesim.memory.policies import registry as policies


def weighted(case: Case) -> Case:
    """``case`` with drawn gate weights in its trace."""
    drawn = np.random.default_rng(1).random(case.trace.expert_ids.shape).astype(np.float16)
    return replace(case, trace=replace(case.trace, gate_weights=drawn))


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
    jobs = {kind: partial(play, case) for kind, case in cases.items()}
    seconds = measured(jobs, options.repeat)
    found = {
        kind: {
            "ns_an_access": seconds[kind] / shape.accesses * 1e9,
            "times_lru": seconds[kind] / seconds["lru"],
        }
        for kind in sorted(kinds, key=seconds.__getitem__)
    }
    for kind, one in found.items():
        print(f"{kind:12} {one['ns_an_access']:8.1f} ns an access, {one['times_lru']:6.2f} x lru")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "policy_speed.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
