"""The SimPy engine against the judge, to the nanosecond, on experiments that hypothesis makes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from .judge import judge
from .judge_words import Verdict
from .strategies import Case, cases

WIRED = False

COUNTS = ["hits", "late", "misses"]
WAITS = ["start_ns", "end_ns", "stall_ns", "barrier_ns"]
LAYER_COLUMNS = ["step", "layer", "gpu", "tokens", "distinct_experts", *COUNTS, *WAITS]
STEP_COLUMNS = [
    *["step", "tokens", "decode_tokens", "live_requests", "turns", *COUNTS],
    *["accesses", "access_hits", "bytes_h2d", *WAITS],
    *["attention_ns", "gate_ns", "dispatch_combine_ns", "experts_ns", "host_ns"],
]


@dataclass
class Observed:
    """What an engine says, in the judge's words (nanoseconds, counts)."""

    totals: dict[str, int]  # a subset of Verdict's integer fields
    time_ns: dict[str, int]  # CATEGORIES and idle, summed over GPUs
    steps: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    tpot_ns: dict[int, Fraction | None]


def run_des(case: Case) -> Observed:
    """Run the engine on the case: ``case.arrays()`` is the trace, ToyCostModel the prices."""
    raise NotImplementedError(case)


def compare(verdict: Verdict, observed: Observed) -> None:
    """Layers first, then steps, then totals: the first difference in time is the one shown."""
    key = ("step", "layer", "gpu")
    theirs = {tuple(int(row[k]) for k in key): row for row in observed.layers}
    for row in verdict.layers:
        where = tuple(row[k] for k in key)
        assert picked(theirs.pop(where), LAYER_COLUMNS) == picked(row, LAYER_COLUMNS)
    assert not theirs
    assert len(observed.steps) == len(verdict.steps)
    for mine, other in zip(verdict.steps, observed.steps, strict=True):
        assert picked(other, STEP_COLUMNS) == picked(mine, STEP_COLUMNS)
    expected = {name: getattr(verdict, name) for name in observed.totals}
    assert observed.totals == expected
    assert observed.time_ns == verdict.time_ns
    assert observed.tpot_ns == {r["request_id"]: r["tpot_ns"] for r in verdict.requests}


def picked(row: dict[str, Any], columns: list[str]) -> dict[str, int]:
    return {column: int(row[column]) for column in columns}


@pytest.mark.skipif(not WIRED, reason="the engine is not wired yet")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_the_engine_agrees_with_the_judge(case: Case) -> None:
    compare(judge(case.trace, case.model, case.config, case.prices), run_des(case))
