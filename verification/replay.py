"""The compiled engine against the event engine, on many random experiments."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from moesim.engine.des.run import run_des
from moesim.engine.replay.quick import is_quick
from moesim.engine.replay.run import run_replay
from tests.reference.strategies import Case, cases
from tests.reference.test_replay import QUICK, assert_same, decided_at_once
from tests.reference.wiring import engine_case
from verification.check import Measured, check

EXAMPLES = 10_000


@check(
    "Both engines agree to the nanosecond, in every count and in what prices rest on",
    tolerance=0,
    why="they have the same semantics and count in integers",
    unit="experiments that differ",
)
def replay_is_des() -> Measured:
    drawn: Counter[str] = Counter()
    differing: list[str] = []

    @seed(2025)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases() | cases(prompts=True), st.none() | st.sampled_from(QUICK))
    def every(case: Case, policy: str | None) -> None:
        theirs = engine_case(case)
        if policy is not None:
            theirs = decided_at_once(theirs, policy)
        drawn["decided at once" if is_quick(theirs) else "decided by the common program"] += 1
        try:
            assert_same(run_replay(theirs), run_des(theirs))
        except AssertionError as error:
            differing.append(f"{case.config}: {error}")

    every()
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(drawn.items()))
    first = f"; first: {differing[0]}" if differing else ""
    return Measured(len(differing), f"{sum(drawn.values())} experiments ({kinds}){first}")
