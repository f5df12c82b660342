"""Benchmarks compare their results before they print a speed: a wrong engine is an error."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from moesim.engine.case import Case
from moesim.engine.outcome import Outcome
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("*.py") if path.stem != "agreement")
SMALL = {
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
    "experts": {"capacity": "6 slots/layer"},
    "workload": {"requests": 4},
}


@pytest.fixture(scope="module")
def agreement() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import agreement

        yield agreement
    del sys.modules["agreement"]


@pytest.fixture(scope="module")
def case() -> Case:
    return build(load_experiment(SMALL).experiment).case


def test_engines_that_agree_pass(agreement: ModuleType, case: Case) -> None:
    agreement.check(case, "as it is", first=5)


def one_miss_more(outcome: Outcome, passes: int) -> Outcome:
    counts = outcome.counts
    return replace(outcome, counts=replace(counts, hits=counts.hits - 1 * (counts.hits > 0)))


def a_nanosecond_later(outcome: Outcome, passes: int) -> Outcome:
    return replace(outcome, ends=outcome.ends + 1)


def one_expert_lost(outcome: Outcome, passes: int) -> Outcome:
    counts, whole = outcome.counts, len(outcome.ends) > passes
    first = np.zeros_like(counts.activations)
    first[:1] = whole
    return replace(outcome, counts=replace(counts, activations=counts.activations - first))


def late_in_the_whole_run(outcome: Outcome, passes: int) -> Outcome:
    return replace(outcome, ends=outcome.ends + (len(outcome.ends) > passes))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (one_miss_more, "misses of replay and des differ"),
        (a_nanosecond_later, "ends of passes of replay and des differ"),
        (one_expert_lost, "experts that were executed, and those that the trace activates"),
        (late_in_the_whole_run, "ends of the first passes of the whole run and of des differ"),
    ],
)
def test_a_wrong_engine_is_an_error(
    agreement: ModuleType, case: Case, monkeypatch: pytest.MonkeyPatch, wrong: Any, said: str
) -> None:
    right, passes = agreement.run_replay, 5
    monkeypatch.setattr(
        agreement, "run_replay", lambda *given, **options: wrong(right(*given, **options), passes)
    )
    with pytest.raises(AssertionError, match=said):
        agreement.check(case, "wrong", first=passes)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_benchmark_compares_what_it_measures(script: str) -> None:
    text = (BENCHMARKS / script).read_text()
    shared = ("check(", "must_agree(", "must_equal(", "places_every_expert(")
    assert any(word in text for word in (*shared, "raise AssertionError"))
