"""Speed of `replay` under every cache policy, from arrays to summary, as ratios to LRU in one run.

    python benchmarks/policy_speed.py [--repeat 5] [--tokens 20000]

The case is the first of `replay_speed.py`, with gate weights. Medians of processor seconds, the
policies in turn. Each policy is first checked: on CHECKED tokens `des` must give the same.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from replay_speed import Shape, case_of, measured, play

from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.memory.policies import registry as policies

CHECKED = 300


def weighted(case: Case) -> Case:
    """``case`` with drawn gate weights in its trace."""
    drawn = np.random.default_rng(1).random(case.trace.expert_ids.shape).astype(np.float16)
    return replace(case, trace=replace(case.trace, gate_weights=drawn))


def check(kind: str) -> None:
    """Raise where ``replay`` and ``des`` differ under the policy ``kind``."""
    case = weighted(case_of(Shape(tokens=CHECKED, policy=kind)))
    mine, theirs = (run(case, records="summary") for run in (run_replay, run_des))
    for name in ("misses", "hits", "access_hits"):
        counts = [getattr(one.counts, name).sum() for one in (mine, theirs)]
        if counts[0] != counts[1]:
            message = f"{kind}, {name}: replay {counts[0]}, des {counts[1]}"
            raise AssertionError(message)
    if not np.array_equal(mine.ends, theirs.ends):
        message = f"{kind}: replay and des end at different times"
        raise AssertionError(message)


def main() -> None:
    """Check, measure, print, and write benchmarks/results/policy_speed.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=20_000)
    options = parser.parse_args()
    shape, kinds = Shape(tokens=options.tokens), list(policies.components)
    for kind in kinds:
        check(kind)
    cases = {kind: weighted(case_of(replace(shape, policy=kind))) for kind in kinds}
    seconds = measured(
        {kind: (lambda case=case: play(case)) for kind, case in cases.items()}, options.repeat
    )
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
