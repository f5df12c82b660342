"""How often experts got other places, and what that moved."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Case
from moesim.engine.outcome import Outcome
from moesim.hardware.charge import REBALANCING
from moesim.metrics.instances import instance_of_passes

KEYS = ("rebalancings", "rebalanced_bytes", "rebalanced_beside_ms")
MS = 1_000_000


def rebalance_keys(case: Case) -> tuple[str, ...]:
    """Nothing where experts keep their places."""
    return () if case.rebalance is None else KEYS


def rebalance_numbers(case: Case, outcome: Outcome) -> dict[str, Any]:
    """By ``rebalance_keys``: new plans, the bytes of experts that went from GPU to GPU, and the
    time, a mean of GPUs, that this took beside passes and none waited for; with a note where some
    went so, or the run was too short for any.
    """
    (times, moved, gpu_ns), rules, beside_ms = outcome.rebalanced, case.rebalance, 0.0
    if rules is None:
        return {}
    if rules.one_by_one:
        waited = int(outcome.charges[..., outcome.categories.index(REBALANCING)].sum())
        beside_ms = (gpu_ns - waited) / case.gpus / MS
    numbers = dict(zip(KEYS, (times, moved, beside_ms), strict=True))
    whose, steps = _steps(case)
    if rules.interval >= steps:
        what = f"{steps:,} steps of {whose} are no more than placement.interval, "
        what += f"{rules.interval:,}: experts never moved; write a shorter one, or more requests"
        return {**numbers, "placement_notes": [what]}
    if not gpu_ns:
        return numbers
    in_all = gpu_ns / case.gpus / MS
    went = f"{moved / 1e9:.3g} GB of experts went from GPU to GPU beside passes (mode: async) in"
    went += f" {in_all:,.3g} ms, of which GPUs waited {in_all - beside_ms:,.3g}: by rule, not as"
    return {**numbers, "placement_notes": [f"{went} measured, collectives queue behind transfers"]}


def _steps(case: Case) -> tuple[str, int]:
    """By what plans are counted: the steps of the run, or of the replica that has most."""
    if (instances := instance_of_passes(case)) is None:
        return "the run", case.schedule.passes
    return "the replica with most", int(np.bincount(instances).max())
