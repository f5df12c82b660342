"""How often experts got other places, and what that moved."""

from __future__ import annotations

from moesim.engine.case import Case
from moesim.engine.outcome import Outcome

KEYS = ("rebalancings", "rebalanced_bytes")


def rebalance_keys(case: Case) -> tuple[str, ...]:
    """Nothing where experts keep their places."""
    return () if case.rebalance is None else KEYS


def rebalance_numbers(case: Case, outcome: Outcome) -> dict[str, int]:
    """By ``rebalance_keys``: new plans, and the bytes of experts that went from GPU to GPU."""
    return dict(zip(rebalance_keys(case), outcome.rebalanced, strict=False))
