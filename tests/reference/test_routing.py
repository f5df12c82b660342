"""Rules of routing: the engine's transforms against plain ones, without a clock."""

from __future__ import annotations

from hypothesis import given

from .agreement_routing import same_routing
from .strategies import Case
from .strategies_routing import rerouted_cases


@given(rerouted_cases())
def test_rules_make_the_same_of_a_recording(case: Case) -> None:
    assert case.recorded is not None
    same_routing(case, case.recorded)
