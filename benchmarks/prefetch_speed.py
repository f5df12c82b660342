"""Speed of the engines with prefetch, from arrays to summary, in processor seconds; medians of
several runs, interleaved.

    python benchmarks/prefetch_speed.py [--repeat 3] [--tokens 20000] [--profile]

Traces and prices as in `replay_speed.py`, 12 of 32 slots a layer under LRU, two layers ahead. `des`
plays the first DES_TOKENS of the first case, and the first CHECKED passes of every case, which
`replay` must play alike.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import pstats
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agreement import check
from replay_speed import Shape, case_of, measured, play, rates, show

from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.memory.prefetch import registry as prefetchers
from moesim.memory.prefetch.base import Prefetcher

DES_TOKENS = 200
CHECKED = 60
LAYERS_AHEAD = 2
BATCHES = (1, 4, 16)


def prefetcher(kind: str, **choices: Any) -> Prefetcher:
    """One that looks LAYERS_AHEAD."""
    return prefetchers.get(kind)(layers=LAYERS_AHEAD, **choices)


PREFETCHERS = {
    "oracle": prefetcher("oracle"),
    "oracle, 90 % right": prefetcher("oracle", recall="90 %", precision="90 %"),
    "next_layer": prefetcher("next_layer"),
    "history": prefetcher("history"),
}


def prefetching(shape: Shape, kind: str) -> Case:
    """A case of that shape."""
    return replace(case_of(shape), prefetch=PREFETCHERS[kind])


def main() -> None:
    """Measure, print, and write benchmarks/results/prefetch_speed.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true", help="profile the first case")
    options = parser.parse_args()
    shape = Shape(tokens=options.tokens, slots=12)
    shapes = {f"{kind}, batch 1": (shape, kind) for kind in PREFETCHERS}
    shapes |= {f"oracle, batch {n}": (replace(shape, batch=n), "oracle") for n in BATCHES[1:]}
    short = replace(shape, tokens=DES_TOKENS)
    cases = {name: prefetching(*one) for name, one in shapes.items()}
    of_des = prefetching(short, "oracle")
    if options.profile:
        case = cases["oracle, batch 1"]
        play(case)
        with cProfile.Profile() as profile:
            play(case)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    for name, case in cases.items():
        check(case, name, CHECKED)
    jobs = {name: partial(play, case) for name, case in cases.items()}
    seconds = measured(jobs | {"des": partial(play, of_des, run_des)}, options.repeat)
    found = {
        name: rates(one, cases[name].schedule.passes, seconds[name])
        for name, (one, _) in shapes.items()
    }
    found["des"] = rates(short, of_des.schedule.passes, seconds["des"])
    fastest = found["oracle, batch 1"]["layer_steps_a_second"]
    found["des"]["times_slower"] = fastest / found["des"]["layer_steps_a_second"]
    show("prefetch", found)
    result = {"machine": platform.machine(), "python": platform.python_version(), "cases": found}
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "prefetch_speed.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
