"""Prefetches: the engine against the judge, and what the strategy draws."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings

from moesim.engine.counts import Counts
from moesim.engine.des import run as des

from .judge import AHEAD, judge
from .judge_words import Verdict
from .strategies import PREDICTIONS, WITHOUT_LISTS, Case, needs_exceed_slots, prefetching_cases
from .test_des_against_judge import compare, observed
from .wiring import engine_case

SLOW = [HealthCheck.too_slow]
COUNTS = ("late", *AHEAD)


def verdict_of(case: Case) -> Verdict:
    return judge(case.trace, case.model, case.config, case.prices)


@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@given(prefetching_cases())
def test_the_engine_agrees_with_the_judge_on_prefetches(case: Case) -> None:
    verdict, theirs = verdict_of(case), engine_case(case)
    outcome = des.run_des(theirs, records="layer", check=True)
    compare_prefetches(verdict, outcome.counts)
    compare(verdict, observed(theirs, outcome))


def compare_prefetches(verdict: Verdict, counts: Counts) -> None:
    """First, because a copy that is counted differently explains a time that differs."""
    for row in verdict.layers:
        where = (row["step"], row["layer"], row["gpu"])
        mine = {name: row[name] for name in COUNTS}
        assert {name: int(getattr(counts, name)[where]) for name in COUNTS} == mine, where


def test_prefetches_end_in_every_way() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=500, deadline=None, derandomize=True, database=None)
    @given(prefetching_cases())
    def draw(case: Case) -> None:
        verdict = verdict_of(case)
        seen["all"] += 1
        seen["exceeded"] += needs_exceed_slots(case, verdict)
        seen.update(name for name in COUNTS if getattr(verdict, name))
        seen["late in flight"] += verdict.late > verdict.prefetches_promoted
        seen["wasted"] += verdict.prefetched > verdict.prefetches_used
        seen["across passes"] += case.config.prefetch.layers >= len(case.model.moe_layers)
        seen[case.config.policy] += 1
        seen.update(f"rule {rule}" for rule in {turn.rule for turn in verdict.turns})
        if verdict.prefetched:
            seen.update([case.config.prefetch.kind, case.config.scope])
            seen["budget"] += case.config.prefetch.budget is not None
            seen["several GPUs"] += case.config.gpus > 1

    draw()
    assert 3 * seen["exceeded"] >= seen["all"], seen
    names = [*COUNTS, *PREDICTIONS, *WITHOUT_LISTS, "rule d", "global", "several GPUs"]
    for name in [*names, "late in flight", "wasted", "across passes", "budget"]:
        assert seen[name], (name, seen)


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(prefetching_cases())
def test_the_judges_books_of_prefetches_balance(case: Case) -> None:
    verdict = verdict_of(case)
    assert verdict.hits + verdict.late + verdict.misses == len(verdict.turns)
    assert verdict.prefetches_promoted <= verdict.late
    assert verdict.prefetches_used <= verdict.prefetched
    loaded = verdict.misses - verdict.host_turns - verdict.skipped_turns
    assert verdict.bytes_h2d == (loaded + verdict.prefetched) * case.model.expert_bytes
    copies = [span for span in verdict.spans if span.engine == "copy_in"]
    links = verdict.zero_copy_turns
    assert len(copies) == loaded - links + verdict.prefetched
    assert sum(verdict.time_ns.values()) == verdict.gpus * verdict.duration_ns
    ends: dict[int, int] = {}
    for span in copies:  # one at a time
        assert ends.get(span.gpu, 0) <= span.start_ns
        ends[span.gpu] = span.end_ns
