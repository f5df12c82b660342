"""What the slow checks in verification/ build on still fits the code that they judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import moesim
from moesim.metrics.intervals import intervals
from moesim.workload.batching.refill import Refill
from moesim.workload.batching.static import Static
from moesim.workload.serving.state import NEVER, Asked
from moesim.workload.serving.vllm import Vllm
from verification import kept
from verification.check import CHECKS, load
from verification.intervals import Batching, draw, schedule_of
from verification.published_runs import grown
from verification.scheduling import StepTime, served, spent_ns
from verification.served_laws import (
    ARRIVALS,
    SCHEDULERS,
    away_from_little_ns,
    beyond_limits,
    covered_ns,
    idle_ns,
)
from verification.served_laws import served as of_requests


def test_every_check_says_its_law() -> None:
    load()
    assert len(CHECKS) > 30
    for one in CHECKS.values():
        assert one.law
        assert one.why
        assert one.unit


@pytest.mark.parametrize("batching", [Static, Refill])
def test_runs_that_are_drawn_have_intervals(batching: Batching) -> None:
    rng = np.random.default_rng(0)
    made = intervals(draw(rng, schedule_of(rng, batching))[0])
    assert made["blocks"] > 10
    assert made["output_throughput"]["low"] < made["output_throughput"]["high"]


def test_a_scheduler_serves_by_a_formula() -> None:
    one, asked_at = np.ones(2, np.int64), np.array([0, NEVER - 1])
    asked = Asked(4 * one, 3 * one, np.minimum(asked_at, 1_000_000), 0 * one, 0 * one - 1, 0 * one)
    state = served(asked, Vllm(max_num_batched_tokens=64), StepTime(700, 11))
    assert spent_ns(state).tolist() == [3 * 700 + 6 * 11] * 2


def test_intervals_are_covered_once() -> None:
    assert covered_ns(np.array([5, 0, 30]), np.array([12, 10, 31])) == 12 + 1


def test_laws_of_served_runs_hold_and_see_what_breaks_them() -> None:
    """Of a run with blocks for few, and of tables that say otherwise."""
    result = moesim.run(of_requests(SCHEDULERS[0], ARRIVALS[1], "16 blocks", 24), check=True)
    assert result.summary["preemptions"] > 0
    assert idle_ns(result) == beyond_limits(result) == away_from_little_ns(result) == 0
    steps, asked = result.steps, result.requests
    late = steps.assign(start_ns=steps.start_ns + (steps.step == 3))
    assert idle_ns(replace(result, steps=late)) == 1
    full = steps.assign(running=steps.running + 6 * (steps.step == 3))
    assert beyond_limits(replace(result, steps=full)) == 1
    fewer = steps.assign(tokens=steps.tokens - (steps.step == 3))
    assert beyond_limits(replace(result, steps=fewer)) == 1
    later = asked.assign(last_token_ns=asked.last_token_ns + (asked.request_id == 3))
    assert away_from_little_ns(replace(result, requests=later)) == 1


@pytest.mark.parametrize(
    ("then", "now", "more"),
    [
        (10.0, 12.5, 1.25),  # fails: above 2 points and above a tenth
        (10.0, 11.5, 0.75),  # above a tenth, but not by 2 points
        (30.0, 32.7, 0.9),  # 2.7 points are not a tenth
        (10.0, 4.0, 0.0),
        (10.0, float("nan"), 100.0),
    ],
)
def test_evidence_may_get_worse_by_two_points_or_a_tenth(
    then: float, now: float, more: float
) -> None:
    """Of the kind of number that got worst. A pack none of whose runs had a prediction any more had
    passed, and so had one that had lost some, as long as the others' median was below two.
    """
    before = pack(a=-then, b=3.0).assign(of=["", "mean_ttft_ms"])
    table = before.assign(error_percent=[now, -3.0])
    assert grown(before, table)[0] == pytest.approx(more)


def pack(**errors: float) -> pd.DataFrame:
    """Runs of 10, 11 ... tokens/s that are in order and in their ranges."""
    speeds = [10.0 + place for place in range(len(errors))]
    return pd.DataFrame({
        "run": [*errors], "of": "", "family": "one", "measured_tokens_per_s": speeds,
        "predicted_tokens_per_s": speeds, "low_tokens_per_s": 1.0, "high_tokens_per_s": 99.0,
        "error_percent": [*errors.values()],
    })  # fmt: skip


def test_p90_ranges_and_order_may_not_get_worse_unseen() -> None:
    """The median alone was judged: ranges of a pack could have lost all of their runs."""
    before = pack(**{f"r{number}": 5.0 for number in range(10)})
    assert grown(before, before)[0] == 0
    narrow = before.assign(high_tokens_per_s=before["low_tokens_per_s"] + 1)
    turned = before.assign(predicted_tokens_per_s=[19.0 - place for place in range(10)])
    far = before.assign(error_percent=[5.0] * 8 + [60.0] * 2)
    assert all(grown(before, table)[0] > 1 for table in (narrow, turned, far))
    one_less = before.assign(high_tokens_per_s=[11.0 - 2, *[99.0] * 9])
    assert grown(before, one_less)[0] == pytest.approx(1), "one run of ten is what it may lose"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    best = tmp_path / "best"
    best.mkdir()
    for name in ("best", "growths"):
        kept_one = getattr(kept, name.upper())
        (best / f"{name}.csv").write_text(kept_one.read_text().splitlines()[0] + "\n")
        monkeypatch.setattr(kept, name.upper(), best / f"{name}.csv")
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    return tmp_path


def test_what_grows_step_by_step_is_kept_with_a_reason_alone(folder: Path) -> None:
    """Each step below two points: 15.4 became 17.5 and 19.5, as the last was what counted."""
    kept.keep("p", pack(a=10.0, b=10.0), "d1")
    kept.keep("p", pack(a=11.5, b=11.5), "d2")
    with pytest.raises(SystemExit, match=r"p: median 10.0 % at best, 13.0 % now\n.*--because"):
        kept.keep("p", pack(a=13.0, b=13.0), "d3")
    assert kept.read("p")["error_percent"].tolist() == [11.5, 11.5]
    kept.keep("p", pack(a=13.0, b=13.0), "d3", "another launch")
    told = kept.growths().set_index("number").to_dict("index")["median"]
    assert (told["day"], told["best"], told["now"]) == ("d3", 10.0, 13.0)
    assert kept.lines()[2] == "| d3 | p | median | 10.0 % | 13.0 % | 13.0 % | another launch |"
    kept.keep("p", pack(a=14.0, b=14.0), "d4")
    with pytest.raises(SystemExit, match="median"):
        kept.keep("p", pack(a=16.0, b=16.0), "d5")


def test_a_reason_holds_until_a_number_is_better_than_ever(folder: Path) -> None:
    for day, error in enumerate((10.0, 20.0, 9.0)):
        kept.keep("p", pack(a=error, b=error), f"d{day}", "why")
    assert kept.best()["p", "", "median"] == 9.0
    with pytest.raises(SystemExit, match=r"9\.0 % at best, 19\.0 % now"):
        kept.keep("p", pack(a=19.0, b=19.0), "d4")


def test_runs_that_leave_or_come_move_the_best_by_what_they_do(folder: Path) -> None:
    """And by no more: dropping a good run does not hide that others got worse."""
    kept.keep("p", pack(a=2.0, b=10.0, c=10.0), "d1")
    kept.keep("p", pack(b=10.0, c=10.0), "d2")
    assert kept.best()["p", "", "p90"] == 10.0
    with pytest.raises(SystemExit, match="median"):
        kept.keep("p", pack(b=13.0, c=13.0, d=13.0), "d3")
    kept.keep("p", pack(b=10.0, c=10.0, d=40.0), "d3")
    assert kept.best()["p", "", "p90"] == pytest.approx(34.0)


def test_what_is_kept_has_a_reason_wherever_it_was_better() -> None:
    """The best of each number is from all results that were ever kept."""
    for file in sorted(kept.FOLDER.glob("*.csv")):
        table = kept.read(file.stem)
        assert kept.grown(file.stem, table, kept.best(), kept.growths()) == []
        for of, mine in kept.kinds(table):
            found = kept.numbers(mine)
            assert all(kept.best()[file.stem, of, name] < one.percent + 0.01
                       for name, one in found.items())  # fmt: skip
    without = kept.growths()[:0]
    told = kept.grown("published", kept.read("published"), kept.best(), without)
    assert [one.number for one in told] == ["median"]
    assert kept.growths()["reason"].str.len().min() > 20
