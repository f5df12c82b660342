"""The compiled engine against the event engine, on many random experiments."""

from __future__ import annotations

from hypothesis import strategies as st

from moesim.engine.des.run import run_des
from moesim.engine.replay.quick.makers import is_quick
from moesim.engine.replay.run import run_replay
from tests.reference.agreement import assert_same
from tests.reference.strategies import Case, cases
from tests.reference.test_replay import QUICK, decided_at_once
from tests.reference.wiring import engine_case
from verification.check import Measured, check
from verification.drawn import Comparison, differing

EXAMPLES = 10_000


@check(
    "Both engines agree to the nanosecond, in every count and in what prices rest on",
    tolerance=0,
    why="they have the same semantics and count in integers",
    unit="experiments that differ",
)
def replay_is_des() -> Measured:
    def same(case: Case, policy: str | None) -> Comparison:
        theirs = engine_case(case)
        if policy is not None:
            theirs = decided_at_once(theirs, policy)
        kind = "decided at once" if is_quick(theirs) else "decided by the common program"
        return Comparison(
            kind, str(case.config), lambda: assert_same(run_replay(theirs), run_des(theirs))
        )

    drawn = cases() | cases(prompts=True), st.none() | st.sampled_from(QUICK)
    return differing(same, *drawn, examples=EXAMPLES, start=2025)
