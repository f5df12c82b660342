"""What runs spare that follow others with the same requests, in processor seconds; medians.

    python benchmarks/shared_decisions.py [--repeat 5]

The case `lru` of replay_speed.py, four rows a pass, or one (where LRU decides anew): alone, then
after a run with other prices (decisions are taken over); of four rows also after runs with other
slots (one pass has decided for all sizes), and after a run under another policy (active experts are
known). Whatever ran before, the outcome must be that of the run alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
from agreement import must_agree
from replay_speed import Shape, case_of

from moesim.engine.case import Case
from moesim.engine.outcome import Outcome
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.run import run_replay
from moesim.memory.policies import registry as policies

SLOTS = (16, 17, 18, 19, 21, 22)
"""Enough runs for every policy's one pass to pay."""
CASES = ((4, "lru"), (4, "min"), (1, "lru"), (1, "min"), (1, "lfru"))
"""Rows of a pass, and policies."""


def with_slots(case: Case, slots: int) -> Case:
    """The case with so many."""
    return replace(case, slots=np.full_like(case.slots, slots))


def played(case: Case, before: Sequence[Case], *, decisions: bool) -> tuple[float, Outcome]:
    """Processor seconds of ``case`` after the runs ``before``, and its outcome."""
    log = DecisionLog(decisions=decisions)
    for run in before:
        run_replay(run, records="summary", log=log)
    begun = process_time()
    outcome = run_replay(case, records="summary", log=log if before else None)
    return process_time() - begun, outcome


def measured(batch: int, policy: str, repeat: int) -> dict[str, float]:
    """Medians for ``policy`` where passes have so many rows."""
    case = case_of(Shape(batch=batch, slots=20, policy=policy))
    runs: dict[str, tuple[Sequence[Case], bool]] = {"alone": ([], False)}
    if batch > 1:
        under_fifo = replace(case, policy=policies.get("fifo")())
        runs["other policies before"] = [under_fifo], False
        runs["other slots before"] = [with_slots(case, slots) for slots in SLOTS], False
    runs["other prices before"] = [case], True
    found: dict[str, list[float]] = {name: [] for name in runs}
    alone = run_replay(case, records="summary")
    for turn in range(repeat + 1):
        for name, (before, decisions) in runs.items():
            seconds, outcome = played(case, before, decisions=decisions)
            must_agree(outcome, alone, f"{policy}, {name}")
            if turn:
                found[name].append(seconds)
    return {name: median(seconds) for name, seconds in found.items()}


def main() -> None:
    """Print and write the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    result = {}
    for batch, policy in CASES:
        case = f"{policy}, {batch} a pass"
        result[case] = measured(batch, policy, options.repeat)
        for name, seconds in result[case].items():
            times = result[case]["alone"] / seconds
            print(f"{case:16} {name:22} {seconds:6.3f} s, {times:4.1f} x")
    target = Path(__file__).parent / "results" / "shared_decisions.json"
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
