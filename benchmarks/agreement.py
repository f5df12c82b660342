"""What a benchmark compares before it prints a speed: a faster engine that is wrong must fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay

CHECKED = 300
"""Forward passes of a case that `des` plays, too."""
CUT = 2
"""Passes at the end of a part that are not as in the whole: they prefetch for none after them."""
COUNTS = ("misses", "hits", "access_hits")


def must_agree(one: Outcome, other: Outcome, what: str) -> None:
    """Raise an AssertionError where two outcomes of one case differ in counts or times."""
    for name in COUNTS:
        mine, theirs = getattr(one.counts, name).sum(), getattr(other.counts, name).sum()
        must_equal(mine, theirs, f"{what}: {name} of {one.engine} and {other.engine}")
    must_equal(one.ends, other.ends, f"{what}: ends of passes of {one.engine} and {other.engine}")


def must_equal(one: object, other: object, what: str) -> None:
    """Raise an AssertionError where two numbers or arrays differ."""
    if not np.array_equal(np.asarray(one), np.asarray(other)):
        message = f"{what} differ: {one} and {other}"
        raise AssertionError(message)


def check(case: Case, what: str, first: int = CHECKED) -> None:
    """Raise an AssertionError where `replay` is not what `des` is in the ``first`` passes of
    ``case``, or as a whole has lost or invented an activation of an expert.

    The whole run must begin as its part does, unless the policy knows
    the part from the whole.
    """
    part = replace(case, schedule=case.schedule.first(first))
    slow = run_des(part, records="summary")
    must_agree(run_replay(part, records="summary"), slow, what)
    whole = run_replay(case, records="summary")
    if not case.placement.has_replicas:  # which of them runs is not in the trace
        found = (int(whole.counts.activations.sum()), activations(case))
        must_equal(
            *found, f"{what}: experts that were executed, and those that the trace activates"
        )
    if not case.policy.looks_ahead and not case.policy.learning_part():
        passes = part.schedule.passes - CUT
        begin = (whole.ends[:passes], slow.ends[:passes])
        must_equal(*begin, f"{what}: ends of the first passes of the whole run and of des")


def activations(case: Case) -> int:
    """Distinct experts of every pass and layer, summed up: counted in the trace, or all of them."""
    if case.gating.invokes_all:
        return case.schedule.passes * case.trace.moe_layers * case.trace.experts
    schedule, experts = case.schedule, case.trace.experts
    begin = schedule.pass_of_token()[:, None] * experts
    found = 0
    for layer in range(case.trace.moe_layers):
        active = np.zeros(schedule.passes * experts, np.bool_)
        active[begin + case.trace.expert_ids[schedule.rows, layer]] = True
        found += int(active.sum())
    return found
