"""Forms that nobody ships, several in one table: both engines serve them alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from hypothesis import assume, given

from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.memory.forms import LOADED, ON_HOST, OVER_LINK, Form
from moesim.memory.misses.base import MissHandling
from moesim.metrics.summary import summary

from .agreement import assert_same
from .strategies import Case, cases, few, of_few_policies
from .strategies_prefetch import prefetching_cases
from .wiring import engine_case

LOST = Form("lost", "nowhere", "none")
FORMS = (LOADED, OVER_LINK, LOST, ON_HOST)


class AnyForm(MissHandling):
    """Whatever the prices come to: every form beside every other."""

    kind: Literal["any_form"] = "any_form"
    compares: ClassVar[bool] = True
    forms: ClassVar[tuple[Form, ...]] = FORMS

    @staticmethod
    def place(missing: Any) -> Any:
        """No rule at all."""
        given = missing.copied + missing.hosted + missing.loads
        return (given + missing.copy_ns + missing.kernel_ns + missing.host_ns) % 4


class NoForm(AnyForm):
    """Nothing is computed."""

    kind: Literal["no_form"] = "no_form"  # type: ignore[assignment]
    compares: ClassVar[bool] = False

    @staticmethod
    def place(missing: Any) -> Any:
        """Always left out."""
        return 2


def played(case: Case) -> tuple[EngineCase, Outcome]:
    case = of_few_policies(case, ("gate_score",))
    few = case.config.slots or max(1, case.model.experts // (2 * case.config.gpus))
    software = replace(case.config.software, overlap=True)
    config = replace(case.config, miss="load", slots=few, software=software)
    theirs = replace(engine_case(replace(case, config=config)), miss=AnyForm())
    outcome = run_des(theirs, check=True)
    assert_same(run_replay(theirs), outcome)
    return theirs, outcome


def books_balance(theirs: EngineCase, outcome: Outcome) -> None:
    counts, said = outcome.counts, summary(theirs, outcome, 0.0)
    assert int(counts.missed.sum()) == said["misses"]
    by_form = {form: int(counts.missed_as(form).sum()) for form in FORMS}
    assert by_form[OVER_LINK] == said["misses_zero_copy"]
    assert (by_form[ON_HOST], by_form[LOST]) == (said["misses_on_cpu"], said["misses_lost"])
    came = by_form[LOADED] + int(counts.unneeded.sum()) + said["prefetches"]
    assert int(counts.copies.sum()) == came
    sizes = [one.moe.expert.bytes for one in theirs.model.moe_layers if one.moe]
    assert said["bytes_h2d"] == (came + by_form[OVER_LINK]) * sizes[0]
    share, weight = said["skipped_share"], said["skipped_gate_weight_share"]
    assert (by_form[LOST] == 0) <= (share in (0, None))
    assert 0 <= (share or 0) <= 1
    assert 0 <= (weight or 0) <= 1
    assert (counts.rows[..., 0] >= 0).all()


@few
@given(cases() | cases(prompts=True))
def test_engines_agree_on_any_mix(case: Case) -> None:
    books_balance(*played(case))


@few
@given(prefetching_cases())
def test_engines_agree_on_any_mix_beside_prefetches(case: Case) -> None:
    books_balance(*played(case))


@few
@given(cases())
def test_where_nothing_is_computed_all_weight_is_dropped_or_left_out(case: Case) -> None:
    """Replicas share their expert's weight, and each part is rounded down."""
    case = of_few_policies(case, ())
    case = replace(case, config=replace(case.config, slots=1, initial="empty", prefill="cache"))
    theirs = replace(engine_case(replace(case, config=replace(case.config, miss="load"))),
                     miss=NoForm())  # fmt: skip
    assume(theirs.policy.shared_buffers() is None)
    assume(not any(theirs.resident(gpu).any() for gpu in range(theirs.gpus)))
    outcome = run_replay(theirs)
    assert not outcome.counts.rows.any()
    dropped, whole = outcome.counts.lost_weight.sum(axis=(0, 1)).tolist()
    left_out, lost = int(outcome.counts.skipped_weight.sum()), int(outcome.counts.missed.sum())
    assert whole - dropped - lost <= left_out <= whole - dropped
    if not theirs.placement.has_replicas:
        assert left_out == whole - dropped
