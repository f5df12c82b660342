"""Whole schedules, as SGLang's own scheduler decides them (tests/data/schedules/make_sglang.py), by
the package's rules.
"""

from __future__ import annotations

from typing import Any

import pytest

from moesim.workload.serving.sglang import Sglang
from moesim.workload.serving.state import PREEMPTED, State

from .kept_schedules import (
    decided,
    preemptions_told,
    serving_case,
    steps_in,
    steps_told,
    told_by,
)

TOLD = told_by("sglang")
WHOLE, EVICTING = ([one for one in TOLD["cases"] if one.get("evicts", False) is evicts]
                   for evicts in (False, True))  # fmt: skip


def ours(case: dict[str, Any]) -> State:
    return decided(serving_case(case), Sglang(**case["scheduler"]))


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case["name"])
def test_whole_schedules_are_those_of_sglang(case):
    state = ours(case)
    assert steps_in(state) == steps_told(case)
    assert state.requests[PREEMPTED].tolist() == preemptions_told(case)


@pytest.mark.parametrize("case", EVICTING, ids=lambda case: case["name"])
def test_about_as_much_is_found_where_prefixes_give_way(case):
    """SGLang gives up other ones: as much is computed, to 3 %, though not in the same steps. (Of 60
    requests: one workload of 24 had been 3.6 % off, and was made longer then.)
    """
    found, told = (sum(n for _, step in steps for _, n in step) for steps in
                   (steps_in(ours(case)), steps_told(case)))  # fmt: skip
    assert abs(found - told) <= 0.03 * told


def test_there_is_something_to_see():
    gone = [sum(preemptions_told(case)) for case in WHOLE]
    assert len(gone) > 40
    assert sum(count > 0 for count in gone) > 8
