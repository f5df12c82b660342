"""How often experts got other places, and what that moved."""

from __future__ import annotations

from typing import Any

from moesim.engine.case import Case
from moesim.engine.outcome import Outcome

KEYS = ("rebalancings", "rebalanced_bytes", "rebalanced_beside_ms")
MS = 1_000_000


def rebalance_keys(case: Case) -> tuple[str, ...]:
    """Nothing where experts keep their places."""
    return () if case.rebalance is None else KEYS


def rebalance_numbers(case: Case, outcome: Outcome) -> dict[str, Any]:
    """By ``rebalance_keys``: new plans, the bytes of experts that went from GPU to GPU, and the
    time that those beside passes take of the links; with a note where these went at no cost.
    """
    (times, moved, ns), rules = outcome.rebalanced, case.rebalance
    numbers: dict[str, Any] = dict(zip(rebalance_keys(case), (times, moved, ns / MS), strict=False))
    if rules is None or not rules.one_by_one or not moved:
        return numbers
    lasts = int(outcome.ends.max() - outcome.starts.min()) / MS
    went = f"{moved / 1e9:.3g} GB of experts went from GPU to GPU beside passes and slowed nothing"
    went += f" down (mode: async); by themselves they take {ns / MS:,.3g} ms of the links between"
    went += f" GPUs, in a run of {lasts:,.0f} ms: collectives, which need the same links, may wait"
    return {**numbers, "placement_notes": [f"{went} as long; mode: sync has all GPUs wait for it"]}
