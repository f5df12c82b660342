"""The compiled engine against the event engine, on many random experiments."""

from __future__ import annotations

from hypothesis import strategies as st

from moesim.engine.des.run import run_des
from moesim.engine.replay.quick.makers import is_quick
from moesim.engine.replay.run import run_replay
from tests.reference.agreement import assert_same
from tests.reference.strategies import Case, cases
from tests.reference.strategies_together import concept_cases
from tests.reference.test_replay import QUICK, decided_at_once
from tests.reference.test_shared_links import behind_cases, shared
from tests.reference.wiring import engine_case
from verification.check import Measured, check
from verification.drawn import Comparison, differing

EXAMPLES, OVER_LINKS = 10_000, 2_000


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


@check(
    "Both engines agree to the nanosecond where copies, and what the host reads, share links",
    tolerance=0,
    why="one counts in fractions and the other in numbers that are off by 1e-25 ns",
    unit="experiments that differ",
)
def shared_links_agree() -> Measured:
    def same(case: Case, data: st.DataObject) -> Comparison:
        theirs = shared(engine_case(case), data)
        reads = "copies and the host" if theirs.links and theirs.links.host else "copies"
        name = f"{case.config} over {theirs.links}"
        return Comparison(reads, name, lambda: assert_same(run_replay(theirs), run_des(theirs)))

    drawn = concept_cases() | behind_cases(), st.data()
    return differing(same, *drawn, examples=OVER_LINKS, start=2030)
