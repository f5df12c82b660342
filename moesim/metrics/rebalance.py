"""How often experts got other places, and what that moved."""

from __future__ import annotations

from typing import Any

from moesim.engine.case import Case
from moesim.engine.outcome import Outcome

KEYS = ("rebalancings", "rebalanced_bytes")


def rebalance_keys(case: Case) -> tuple[str, ...]:
    """Nothing where experts keep their places."""
    return () if case.rebalance is None else KEYS


def rebalance_numbers(case: Case, outcome: Outcome) -> dict[str, Any]:
    """By ``rebalance_keys``: new plans, and the bytes of experts that went from GPU to GPU; with a
    note where these went at no cost.
    """
    numbers: dict[str, Any] = dict(zip(rebalance_keys(case), outcome.rebalanced, strict=False))
    if case.rebalance is None or not case.rebalance.one_by_one or not outcome.rebalanced[1]:
        return numbers
    went = f"{outcome.rebalanced[1] / 1e9:.3g} GB of experts went from GPU to GPU beside passes and"
    went += " slowed nothing down (mode: async), as links with room to spare would have it; mode:"
    return {**numbers, "placement_notes": [f"{went} sync tells the time that they take"]}
