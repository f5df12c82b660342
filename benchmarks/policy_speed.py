"""Speed of `replay` under every cache policy, from arrays to summary, as ratios to LRU in one run.

    python benchmarks/policy_speed.py [--repeat 5] [--tokens 20000]

The case is the first of `replay_speed.py`, with gate weights; the policies are those that there are
and the examples of docs/adding.md. Medians of processor seconds, and of their ratios to LRU's,
which is played anew before each. Each policy is first checked: `des` plays its first passes, too.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
from agreement import check
from replay_speed import Shape, case_of, play

from moesim.engine.case import Case
from moesim.memory.policies import registry as policies
from moesim.memory.policy import CachePolicy


def examples(folder: Path) -> dict[str, CachePolicy]:
    """The cache policies of docs/adding.md, each in a file of ``folder``, as new ones are."""
    page = (Path(__file__).parents[1] / "docs" / "adding.md").read_text("utf-8")
    found: dict[str, CachePolicy] = {}
    for source in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if named := re.search(r"^class (\w+)\(CachePolicy\)", source, re.MULTILINE):
            file = folder / f"{named[1].lower()}.py"
            file.write_text(source, encoding="utf-8")
            spec = spec_from_file_location(f"example_{file.stem}", file)
            assert spec is not None
            assert spec.loader is not None
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            found[f"{file.stem} *"] = vars(module)[named[1]]()
    return found


def weighted(case: Case) -> Case:
    """``case`` with drawn gate weights in its trace."""
    drawn = np.random.default_rng(1).random(case.trace.expert_ids.shape).astype(np.float16)
    return replace(case, trace=replace(case.trace, gate_weights=drawn))


def seconds_of(case: Case) -> float:
    """Processor seconds of ``case``."""
    begun = process_time()
    play(case)
    return process_time() - begun


def measured(shape: Shape, repeat: int, every: dict[str, CachePolicy]) -> dict[str, Any]:
    """What an access takes under ``every`` policy, the fastest first."""
    base = weighted(case_of(shape))
    cases = {kind: replace(base, policy=policy) for kind, policy in every.items()}
    for kind, case in cases.items():
        check(case, kind)
        play(case)
    pairs: dict[str, list[tuple[float, float]]] = {kind: [] for kind in every}
    for _ in range(repeat):
        for kind in every:
            pairs[kind].append((seconds_of(cases["lru"]), seconds_of(cases[kind])))
    found = {
        kind: {
            "ns_an_access": median(own for _, own in of_kind) / shape.accesses * 1e9,
            "times_lru": median(own / lru for lru, own in of_kind),
        }
        for kind, of_kind in pairs.items()
    }
    return dict(sorted(found.items(), key=lambda one: one[1]["times_lru"]))


def main() -> None:
    """Check, measure, print, and write benchmarks/results/policy_speed.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=20_000)
    options = parser.parse_args()
    shape = Shape(tokens=options.tokens)
    with TemporaryDirectory() as folder:  # what functions read is found in their files
        every = {kind: policies.get(kind)() for kind in policies.components}
        found = measured(shape, options.repeat, every | examples(Path(folder)))
    for kind, one in found.items():
        print(f"{kind:12} {one['ns_an_access']:8.1f} ns an access, {one['times_lru']:6.2f} x lru")
    target = Path(__file__).parent / "results" / "policy_speed.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
