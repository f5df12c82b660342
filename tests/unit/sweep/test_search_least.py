"""How many it takes, of what is no load and of which more helps."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.experiment import Experiment
from moesim.report.sweep.search import sentence
from moesim.sweep.limit import Limit
from moesim.sweep.probes import Found
from moesim.sweep.search import search as search_of
from tests.unit.sweep.test_search import SERVED


def asked_of(own: int, tpot_ms: Callable[[int], float]) -> tuple[list[float], Found]:
    """What is asked, in order, of replicas that share a line of 1000 ms and are to keep it below
    300 ms, as four do and three do not, and a time a token below 50 ms.
    """
    asked: list[float] = []

    def toy(experiment: Experiment, *, watch: object = None) -> SimpleNamespace:
        assert experiment.serving is not None
        count = experiment.serving.replicas
        times = {"p99_ttft_ms": 1000 / count, "p99_tpot_ms": tpot_ms(count)}
        return SimpleNamespace(summary={"status": "ok", **times})

    def told(now: Found) -> None:
        assert now.last is not None
        asked.append(now.last.value)

    experiment = load_experiment({**SERVED, "serving": {"replicas": own}}).experiment
    limits = [Limit("p99_ttft_ms", "<=", 300), Limit("p99_tpot_ms", "<=", 50)]
    with patch("moesim.sweep.search.simulate", toy):
        found = search_of(experiment, "serving.replicas", limits, told)
    return asked, found


@pytest.mark.parametrize(
    ("own", "asked"),
    [(1, [1, 2, 4, 3]), (2, [2, 1, 4, 3]), (4, [4, 2, 3]), (16, [16, 8, 4, 2, 3])],
)
def test_how_many_it_takes_is_found_without_asking_for_more(own: int, asked: list[float]) -> None:
    """It had gone on to 64, each run larger, until memory was full."""
    for tpot_ms in (lambda count: 40 - count / 4, lambda _: 40.0):
        values, found = asked_of(own, tpot_ms)
        assert values == asked
        assert found.best is found.least
        assert sentence(found).startswith("Least replicas: 4; at 3 p99_ttft_ms is 333.3, above 300")
        assert f"so more than {max(asked):g} was not tried" in sentence(found)


def test_more_is_asked_where_it_may_break_another_limit() -> None:
    """A time a token that grows with them is broken from 21 on: the largest is the answer."""
    values, found = asked_of(4, lambda count: 2.5 * count)
    assert values[:5] == [4, 2, 8, 16, 32]
    assert sentence(found).startswith("Largest replicas: 20; at 21 p99_tpot_ms is 52.50, above 50.")
    assert "Too little breaks one, too: at 2 " in sentence(found)


@pytest.mark.parametrize("own", [1, 8])
def test_where_one_is_enough_it_is_the_answer(own: int) -> None:
    experiment = load_experiment({**SERVED, "serving": {"replicas": own}}).experiment

    def toy(experiment: Experiment, *, watch: object = None) -> SimpleNamespace:
        assert experiment.serving is not None
        late = 100 / experiment.serving.replicas
        return SimpleNamespace(summary={"status": "ok", "p99_ttft_ms": late})

    with patch("moesim.sweep.search.simulate", toy):
        found = search_of(experiment, "serving.replicas", [Limit("p99_ttft_ms", "<=", 300)])
    assert found.best is not None
    assert found.best.value == 1
    assert sentence(found).startswith("Least replicas: 1, the least that was tried; more helps")
