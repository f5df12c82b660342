"""Searches: the largest value that keeps its limits, by bisection, and which limit binds."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest

import moesim
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.report.amounts import number
from moesim.report.sweep.search import content, sentence, so_far
from moesim.report.sweep.search_range import between
from moesim.sweep import probes
from moesim.sweep.limit import Limit
from moesim.sweep.probes import CUT, Found, Probe
from moesim.sweep.search import NEAR
from moesim.sweep.search import search as search_of
from moesim.sweep.verdict import CertainError, Verdict

pytestmark = pytest.mark.usefixtures("unrendered")

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
    "workload": {"requests": 12, "batching": {"kind": "static", "batch_size": 2}},
}
BATCH = "workload.batching.batch_size"


def speed(batch: int) -> float:
    workload = {"requests": 12, "batching": {"kind": "static", "batch_size": batch}}
    return float(moesim.run({**TINY, "workload": workload}).summary["mean_tpot_ms"])


@pytest.mark.usefixtures("rendered")
def test_whole_numbers_are_found_to_the_next_one(tmp_path: Path) -> None:
    bound, tried = (speed(5) + speed(6)) / 2, []

    def told(now: Found) -> None:
        assert now.last is not None
        tried.append(now.last.value)

    asked = [f"mean_tpot_ms<={bound}"]
    found, folder = moesim.search(TINY, BATCH, asked, out=tmp_path / "out", told=told)
    assert tried == [2, 4, 8, 5, 6]
    assert found.best is not None
    assert found.first_broken is not None
    assert (found.best.value, found.first_broken.value) == (5, 6)
    assert sentence(found).startswith("Largest batch size: 5; at 6 mean_tpot_ms is ")
    rows = pd.read_csv(folder / "points.csv")
    assert list(rows[BATCH]) == sorted(rows[BATCH])
    assert list(rows.passed) == [value <= 5 for value in rows[BATCH]]


@pytest.mark.usefixtures("rendered")
def test_a_number_with_a_unit_is_found_to_two_percent(tmp_path: Path) -> None:
    served: dict[str, Any] = {
        **TINY,
        "workload": {
            "requests": 24,
            "arrivals": {"kind": "poisson", "request_rate": "50 requests/s"},
            "lengths": {"kind": "fixed", "input_len": 20, "output_len": 20},
            "routing": {"kind": "draw"},
            "batching": {"kind": "continuous", "scheduler": {"kind": "vllm"}},
        },
    }
    path = "workload.arrivals.request_rate"
    found, _ = moesim.search(served, path, ["p99_tpot_ms<=5"], out=tmp_path / "out")
    if found.best is not None and found.first_broken is not None:
        assert 1 < found.first_broken.value / found.best.value <= NEAR
        assert found.first_broken.text.endswith(" requests/s")
    else:
        assert sentence(found).startswith(("Up to ", "No "))


def test_an_answer_has_its_range_by_prices(tmp_path: Path) -> None:
    """From the value that keeps the limit if all is as dear as may be to the one that breaks it if
    all is as cheap.
    """
    bound = (speed(5) + speed(6)) / 2
    found, folder = moesim.search(TINY, BATCH, [f"mean_tpot_ms<={bound}"], out=tmp_path / "out")
    assert found.best is not None
    low, high = found.best.prices["mean_tpot_ms"]
    assert low < bound < high
    kept = [one.text for one in found.probes if one.prices["mean_tpot_ms"][1] <= bound]
    lost = [one.text for one in found.probes if one.prices["mean_tpot_ms"][0] > bound]
    at, told, *rest = content(found)["trust"]
    assert at.startswith(f"prices: at 5 mean_tpot_ms is {found.best.numbers['mean_tpot_ms']:.4g}, ")
    assert f" {kept[-1] if kept else 'less than 2, the least,'} to " in told
    assert f" to {lost[0] if lost else 'more than 8, the most'}, of what was run to its end" in told
    assert any("off by" in line for line in rest)
    assert json.loads((folder / "report.json").read_text())["trust"] == [at, told, *rest]


def test_an_answer_says_what_it_gives_and_costs(tmp_path: Path) -> None:
    bound = (speed(5) + speed(6)) / 2
    asked = {**TINY, "cost": {"gpu": "2 $/h"}}
    found, folder = moesim.search(asked, BATCH, [f"mean_tpot_ms<={bound}"], out=tmp_path / "out")
    assert found.best is not None
    fast = found.best.every["output_throughput"]
    usd = 2 / 3600 / fast * 1e6
    (told,) = content(found)["at_best"]
    assert told == f"at 5: {number(fast)} tokens/s, {number(usd)} $ a M output tokens"
    assert json.loads((folder / "report.json").read_text())["verdict"] == [sentence(found), told]


def test_what_no_price_moves_ends_a_range() -> None:
    """Memory, a limit without a range, and no run that was cut short."""
    time, size = Limit("t", "<=", 10), Limit("m", "<=", 5)

    def probe(value: int, t: float | None, m: float | None, status: str = "ok") -> Probe:
        numbers = {"t": t, "m": m}
        prices = {} if t is None else {"t": (0.5 * t, 1.5 * t)}
        broke = tuple(one for one in (time, size) if not one.holds(numbers[one.metric]))
        return Probe(value, str(value), status, numbers, broke, prices=prices)

    def range_of(*probes: Probe) -> str:
        return between(Found("x", (time, size), probes)).partition("anything ")[2]

    few, more = probe(2, 6, 1), probe(4, 9, 2)
    assert range_of(few, more, probe(8, 12, 6)) == "from 2 to 8, of what was run to its end"
    assert range_of(few, more, probe(8, None, None, "out_of_memory")).startswith("from 2 to 8,")
    assert range_of(few, more, probe(8, 12, 3), probe(16, None, None, CUT)).startswith(
        "from 2 to more than 8, the most"
    )


def test_a_limit_that_is_broken_by_little_is_not_told_as_kept() -> None:
    limit = Limit("t", "<=", 40.0)
    kept = Probe(1.0, "1", "ok", {"t": 39.9}, ())
    broke = Probe(2.0, "2", "ok", {"t": 40.003}, (limit,))
    found = Found("workload.requests", (limit,), (kept, broke))
    assert "at 2 t is 40.0030, above 40." in sentence(found)


def test_the_answer_is_played_again_where_its_range_takes_that(tmp_path: Path) -> None:
    """Requests that come by the clock: only it has one, and no other run is longer for it."""
    workload = {
        "requests": 24,
        "arrivals": {"kind": "poisson", "request_rate": "400 requests/s"},
        "lengths": {"kind": "fixed", "input_len": 20, "output_len": 20},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous", "scheduler": {"kind": "vllm"}},
    }
    served = {**TINY, "workload": workload}
    path = "workload.arrivals.request_rate"
    with patch("moesim.experiment.running.price_ranges.MOST_TOKENS", 1):  # however long it is
        found, _ = moesim.search(served, path, ["p99_ttft_ms<=4"], out=tmp_path / "out")
    assert found.best is not None
    assert [one.value for one in found.probes if one.prices] == [found.best.value]
    low, high = found.best.prices["p99_ttft_ms"]
    value = found.best.numbers["p99_ttft_ms"]
    assert value is not None
    assert low < value < high
    assert "may be anything" not in "".join(content(found)["trust"])
    never = {**served, "serving": {"price_interval": "never"}}
    found, _ = moesim.search(never, path, ["p99_ttft_ms<=4"], out=tmp_path / "never")
    assert not any(one.prices for one in found.probes)


@pytest.mark.parametrize("own", ["0.5 requests/s", "30 requests/min", "1800 requests/h"])
def test_values_are_in_the_unit_that_the_experiment_has(own: str, tmp_path: Path) -> None:
    """A rate below one a second is formatted by the hour where nothing says how it was written."""
    rate = f"workload.arrivals.request_rate={own}"
    found, folder = moesim.search(
        SERVED,
        "workload.arrivals.request_rate",
        ["p99_ttft_ms<=1e-9"],
        out=tmp_path / "out",
        overrides=[rate],
    )
    value, unit = own.split()
    assert own in [one.text for one in found.probes]
    assert {one.text.split()[1] for one in found.probes} == {unit}
    assert unit in sentence(found)
    assert pd.read_csv(folder / "points.csv")["value"].max() == float(value)


def test_the_first_limit_that_breaks_is_named(tmp_path: Path) -> None:
    limits = ["mean_tpot_ms<=1e9", "output_throughput>=1e9"]
    found, _ = moesim.search(TINY, BATCH, limits, out=tmp_path / "out")
    assert found.best is None
    assert [str(one) for one in found.probes[0].broke] == ["output_throughput >= 1e+09"]
    assert "output_throughput is " in sentence(found)
    assert ", below 1e+09" in sentence(found)


@pytest.mark.parametrize(
    ("path", "limit", "told"),
    [
        (BATCH, "p99_tpot_ms", "--sla: 'p99_tpot_ms' is no limit"),
        (BATCH, "p99_tpot_ms<=-1", "--sla: 'p99_tpot_ms<=-1' is kept by no run; write a number"),
        (BATCH, "p99_tpot_ms<=0", "--sla: 'p99_tpot_ms<=0' is kept by no run"),
        (BATCH, "rejected <= -0.5", "--sla: 'rejected <= -0.5' is kept by no run"),
        (BATCH, "output_throughput<=0", "--sla: 'output_throughput<=0' is kept by no run"),
        (BATCH, "output_throughput>=0", "--sla: 'output_throughput>=0' is kept by every run"),
        (
            BATCH,
            "slo_attainment.all>=90",
            "--sla: 'slo_attainment.all>=90' is kept by no run, as a",
        ),
        (BATCH, "p99_tpot_ms>=-3", "--sla: 'p99_tpot_ms>=-3' is kept by every run"),
        (BATCH, "p99_tpot<=3", "--sla: 'p99_tpot' is no number of this run"),
        ("workload.phase", "p99_tpot_ms<=3", "--vary: workload.phase: has no number above 0"),
        ("seed", "p99_tpot_ms<=3", "--vary: seed: is no amount: another one is other luck"),
        ("workload.batch", "p99_tpot_ms<=3", "--vary: workload.batch: is not a known key; allowed"),
        ("workload.context", "p99_tpot_ms<=3", "--vary: workload.context: has no number above 0"),
    ],
)
def test_bad_questions_are_one_line(path: str, limit: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^" + told.replace("'", ".").replace("(", ".")):
        moesim.search(TINY, path, [limit], out=tmp_path / "out")


def test_limits_of_one_number_that_exclude_each_other_are_told_before_any_run(
    tmp_path: Path,
) -> None:
    limits = ["p99_tpot_ms>=3", "output_throughput>=1", "p99_tpot_ms<=2"]
    said = r"--sla: 'p99_tpot_ms<=2' and 'p99_tpot_ms>=3' are kept by no run together"
    with pytest.raises(InputError, match=said):
        moesim.search(TINY, BATCH, limits, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(Limit.parse_all(["a<=3", "a>=3", "b>=9"])) == 3


def test_limits_that_exclude_each_other_are_told_so(tmp_path: Path) -> None:
    """'even at 1' alone sounded as if still less would help."""
    one, few = (moesim.run(TINY, overrides=[f"{BATCH}={size}"]).summary for size in (1, 4))
    assert one["mean_tpot_ms"] < few["mean_tpot_ms"]
    between = (one["mean_tpot_ms"] + few["mean_tpot_ms"]) / 2
    limits = [f"mean_tpot_ms<={between:.6f}", f"output_throughput>={few['output_throughput']:g}"]
    found, _ = moesim.search(TINY, BATCH, limits, out=tmp_path / "out")
    assert "; more helps output_throughput, but at " in sentence(found)
    assert sentence(found).endswith(f"above {between:g}: none that was tried keeps all.")


@pytest.mark.parametrize("text", ["rejected<=0", "stall_ms<=0", "dropped_share <= 0"])
def test_there_may_be_none_of_what_a_limit_counts(text: str) -> None:
    assert Limit.parse(text).holds(0)


def test_it_ends_where_more_changes_nothing(tmp_path: Path) -> None:
    found, _ = moesim.search(TINY, BATCH, ["mean_tpot_ms<=1e9"], out=tmp_path / "out")
    assert found.first_broken is None
    assert [one.value for one in found.probes] == [2, 4, 8, 16, 32]  # of 12 requests
    assert (
        sentence(found)
        == "Up to 32 of batch size nothing breaks a limit, and more changes nothing."
    )


def test_what_limits_do_not_see_is_told_once_at_the_end(tmp_path: Path) -> None:
    """It had stood behind each run that was tried: ten lines of three sentences each."""
    found, _ = moesim.search(TINY, BATCH, ["mean_tpot_ms<=1e9"], out=tmp_path / "out")
    assert found.best is not None
    assert isinstance(found.best.every, dict)
    found.best.every["saturated"] = True
    assert sentence(found).startswith(f"{so_far(found)} Its waiting line grows")
    assert "waiting line" not in so_far(found)


def test_more_of_what_makes_runs_longer_is_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More requests are more steps; a rate is not, and is doubled on while requests come apart."""
    monkeypatch.setattr(probes, "MOST_STEPS", 60)
    limit = "p99_ttft_ms<=1e9"
    found, _ = moesim.search(SERVED, "workload.requests", [limit], out=tmp_path / "requests")
    steps = [one.every["steps"] for one in found.probes]
    assert found.first_broken is None
    assert steps[-1] >= 60 > steps[-2]
    told = f"; more was not tried: its run has {found.probes[-1].every['tokens']} tokens in "
    assert f"{told}{steps[-1]} steps, and they grow with it" in sentence(found)
    rate = "workload.arrivals.request_rate"
    found, _ = moesim.search(SERVED, rate, [limit], out=tmp_path / "rate")
    assert len(found.probes) > len(steps) + 1
    assert found.probes[-1].at_once
    assert "steps, and they grow" not in sentence(found)


@pytest.mark.parametrize("limit", ["p99_ttft_ms<=1e9", "request_goodput>=1e6"])
def test_a_rate_that_brings_all_requests_at_once_is_the_last(limit: str, tmp_path: Path) -> None:
    """The answer was 2,000 times that: 24 requests in one burst say nothing of a service."""
    promised = {**SERVED, "serving": {"slo": {"ttft": "1 s"}}}
    rate = "workload.arrivals.request_rate"
    found, _ = moesim.search(promised, rate, [limit], out=tmp_path / "out")
    last = found.probes[-1]
    assert last.at_once
    assert not any(one.at_once for one in found.probes if one.value <= last.value / 2)
    assert last.every["after_first_end_share"] == 0
    many = 4 * last.every["completed"]
    told = f"more was not tried: at {last.text} all requests come before the first answer ends"
    assert told in sentence(found)
    assert sentence(found).count(f"write {many} requests or more") == 1
    assert "of the requests came after" not in sentence(found)


def test_requests_that_come_at_once_end_no_search_of_anything_else(tmp_path: Path) -> None:
    rate = {**SERVED["workload"]["arrivals"], "request_rate": "1e6 requests/s"}
    burst = {**SERVED, "workload": {**SERVED["workload"], "arrivals": rate}}
    path = "workload.lengths.input_len"
    found, _ = moesim.search(burst, path, ["p99_ttft_ms<=1e9"], out=tmp_path / "out")
    assert found.probes[0].every["after_first_end_share"] == 0
    assert len(found.probes) > 2


LOOP: dict[str, Any] = {**TINY, "workload": {**TINY["workload"], "requests": 24}}
LOOP["workload"] |= {
    "arrivals": {"kind": "closed_loop", "max_concurrency": 2},
    "lengths": {"kind": "fixed", "input_len": 20, "output_len": 8},
    "routing": {"kind": "draw"},
    "batching": {"kind": "continuous"},
}
CLIENTS = "workload.arrivals.max_concurrency"


def loop_of(clients: int) -> dict[str, Any]:
    loop = {"kind": "closed_loop", "max_concurrency": clients}
    return moesim.run({**LOOP, "workload": {**LOOP["workload"], "arrivals": loop}}).summary


def test_what_only_more_of_it_keeps_is_found_above(tmp_path: Path) -> None:
    """Few clients have too little throughput, many wait too long."""
    few, many, more = (loop_of(clients) for clients in (2, 8, 16))
    fast = (few["output_throughput"] + many["output_throughput"]) / 2
    soon = (many["mean_ttft_ms"] + more["mean_ttft_ms"]) / 2
    limits = [f"output_throughput>={fast}", f"mean_ttft_ms<={soon}"]
    found, _ = moesim.search(LOOP, CLIENTS, limits, out=tmp_path / "both")
    assert found.best is not None
    assert found.too_small is not None
    assert 2 <= found.too_small.value < found.best.value < 16
    said = sentence(found)
    assert said.startswith(f"Largest max concurrency: {found.best.text}; at ")
    assert " Too little breaks one, too: at " in said
    assert said.count("output_throughput is ") == 1


def test_of_a_number_that_never_is_too_large_the_least_is_found(tmp_path: Path) -> None:
    """How many replicas does it take? From four on, of which two have too long a line."""
    workload = {**LOOP["workload"], "arrivals": {"kind": "at_once"}}

    def of(replicas: int) -> dict[str, Any]:
        return {**LOOP, "workload": workload, "serving": {"replicas": replicas}}

    late, soon = (moesim.run(of(count)).summary["mean_ttft_ms"] for count in (2, 3))
    limit = f"mean_ttft_ms<={(late + soon) / 2}"
    found, _ = moesim.search(of(8), "serving.replicas", [limit], out=tmp_path / "out")
    assert found.least is not None
    assert found.too_small is not None
    assert (found.too_small.value, found.least.value) == (2, 3)
    assert [one.value for one in found.probes] == [2, 3, 4, 8]
    assert sentence(found).startswith("Least replicas: 3; at 2 mean_ttft_ms is ")
    told = ", so more than 8 was not tried."
    assert sentence(found).endswith(f"; more helps each limit or leaves it{told}")
    assert content(found)["best"] == "3"
    assert content(found)["at_best"][0].startswith("at 3: ")
    assert "the least replicas may be anything from " in content(found)["trust"][1]


def test_what_no_number_of_clients_reaches_is_told_at_both_ends(tmp_path: Path) -> None:
    found, _ = moesim.search(LOOP, CLIENTS, ["output_throughput>=1e9"], out=tmp_path / "out")
    assert (found.best, found.too_small) == (None, None)
    assert found.nearest is not None
    said = sentence(found)
    assert said.startswith("No max concurrency keeps the limits: even at 1 output_throughput is ")
    assert f"; at {found.nearest.text} output_throughput is " in said


SERVED: dict[str, Any] = {
    **TINY,
    "workload": {
        "requests": 6,
        "arrivals": {"kind": "poisson", "request_rate": "1 requests/s"},
        "lengths": {"kind": "random", "input_len": 20, "output_len": 8, "range_ratio": 0.5},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous"},
    },
}


def test_a_metric_that_stays_the_same_does_not_end_it(tmp_path: Path) -> None:
    """At 1 and at 2 requests/s nobody waits: the times are equal, and the load is not."""
    rate = "workload.arrivals.request_rate"
    found, _ = moesim.search(SERVED, rate, ["p99_queue_ms<=0.1"], out=tmp_path / "out")
    assert found.best is not None
    assert found.first_broken is not None
    assert found.best.value > 4
    assert found.probes[0].numbers == found.probes[1].numbers


def test_a_value_that_cannot_run_breaks_and_rejected_requests_are_told(tmp_path: Path) -> None:
    """The model's context is 512 tokens."""
    path, limit = "workload.lengths.output_len", "p99_tpot_ms<=1e9"
    found, _ = moesim.search(SERVED, path, [limit], out=tmp_path / "one")
    assert found.first_broken is not None
    assert found.first_broken.status == "cannot_run"
    assert "it cannot run (workload: of all requests none is served" in sentence(found)
    assert "It rejects " in sentence(found)
    found, _ = moesim.search(SERVED, path, [limit, "rejected<=0"], out=tmp_path / "two")
    assert found.best is not None
    assert found.best.numbers["rejected"] == 0
    assert sentence(found).endswith("rejected is 1, above 0.")


def test_what_no_load_breaks_is_said_after_the_least(tmp_path: Path) -> None:
    """The first token alone takes longer, so that neither halving nor bisecting helps."""
    rate = "workload.arrivals.request_rate"
    found, _ = moesim.search(SERVED, rate, ["p50_ttft_ms<=1e-6"], out=tmp_path / "out")
    assert [one.text for one in found.probes] == ["0.000976562 requests/s", "1 requests/s"]
    assert sentence(found).startswith("No request rate keeps the limits: even at 0.000976562 ")


def test_goodput_is_a_limit_where_something_is_promised(tmp_path: Path) -> None:
    rate, limit = "workload.arrivals.request_rate", "request_goodput>=0.5"
    with pytest.raises(InputError, match="promises nothing; write serving"):
        moesim.search(SERVED, rate, [limit], out=tmp_path / "one")
    promised = {**SERVED, "serving": {"slo": {"ttft": "1 s"}}}
    found, _ = moesim.search(promised, rate, [limit], out=tmp_path / "two")
    assert found.probes[0].numbers["request_goodput"] is not None


def test_of_several_promises_the_one_that_the_fewest_keep_is_named(tmp_path: Path) -> None:
    rate, limit = "workload.arrivals.request_rate", "slo_attainment.all>=0.9"
    promised = {**SERVED, "serving": {"slo": {"ttft": "1000 s", "tpot": "1 ns"}}}
    found, _ = moesim.search(promised, rate, [limit], out=tmp_path / "out")
    told = "slo_attainment.all is 0, below 0.9 (tpot is kept by the fewest, 0.0 % of requests)"
    assert told in sentence(found)


@pytest.mark.parametrize("own", [5, 25, 45, 47, 50, 60, 100, 1000])
@pytest.mark.parametrize("bound", [20.0, 40.0, 44.5, 50.0])
def test_a_goodput_that_rises_and_falls_is_found_from_wherever_it_begins(
    own: int, bound: float
) -> None:
    """Requests are good up to 45 a second; of more than that fewer, and none from 60 on."""

    def probed(_: Any, path: str, limits: Any, value: float, write: Any, *, cut: bool) -> Probe:
        del path, cut
        good = {"request_goodput": min(value, max(0.0, 45 - 3 * (value - 45)))}
        broke = tuple(one for one in limits if not one.holds(good[one.metric]))
        return Probe(value, write(value), "ok", good, broke, {"good": good["request_goodput"]})

    rate, limit = "workload.arrivals.request_rate", Limit("request_goodput", ">=", bound)
    source = deepcopy(SERVED)
    source["workload"]["arrivals"]["request_rate"] = f"{own} requests/s"
    one = load_experiment({**source, "serving": {"slo": {"ttft": "1 s"}}}).experiment
    with patch("moesim.sweep.search._probe", probed):
        found = search_of(one, rate, [limit])
    assert len(found.probes) < 30
    if bound > 45:
        assert found.best is None
        return
    assert found.best is not None
    largest = 45 + (45 - bound) / 3
    assert largest / NEAR <= found.best.value <= largest


def test_a_wrong_metric_is_told_the_nearest_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the nearest are .*'p99_tpot_ms'") as told:
        moesim.search(TINY, BATCH, ["p99_tpots_ms<=1"], out=tmp_path / "out")
    assert str(told.value).count("_ms'") <= 6


def test_served_runs_have_no_times_of_passes_to_limit(tmp_path: Path) -> None:
    """Those leave the queue out: what clients see has one name, without ``after_warm_up``."""
    rate, limit = "workload.arrivals.request_rate", "after_warm_up.mean_ttft_ms<=1"
    with pytest.raises(InputError, match=r"'after_warm_up.mean_ttft_ms' is no number of this run"):
        moesim.search(SERVED, rate, [limit], out=tmp_path / "out")


def test_slots_are_whole(tmp_path: Path) -> None:
    slots = {**TINY, "experts": {"capacity": "8 slots/layer"}}
    limit = "hit_ratio_per_expert<=0.8"
    found, _ = moesim.search(slots, "experts.capacity", [limit], out=tmp_path / "out")
    assert found.best is not None
    assert found.first_broken is not None
    assert found.first_broken.value == found.best.value + 1


def test_what_is_kept_below_what_does_not_fit_is_found(tmp_path: Path) -> None:
    """8 slots of 32 miss too much and 16 do not fit on the card: between them are some that do."""
    quick, path = "experiments/quickstart.yaml", "experts.capacity"

    def asked(limit: str, own: int) -> tuple[Found, str]:
        overrides = [f"{path}={own} slots/layer"]
        found, _ = moesim.search(
            quick, path, [limit], out=tmp_path / f"{own}{limit}", overrides=overrides
        )
        return found, sentence(found)

    found, said = asked("mean_tpot_ms<=50", 8)
    assert found.best is not None
    assert said.startswith("Least capacity: 9 slots/layer; at 8 slots/layer mean_tpot_ms is ")
    ran = max(one.value for one in found.probes if one.status == "ok")
    assert f" to more than {ran:g} slots/layer, the most, of what was run" in between(found)
    most, said = asked("mean_tpot_ms<=40", 16)
    assert said.startswith(
        "Largest capacity: 13 slots/layer; at 14 slots/layer it is out of memory."
    )
    told = "from none that was tried to 14 slots/layer, of what was run to its end"
    assert between(most).endswith(told)
    none, said = asked("mean_tpot_ms<=20", 8)
    assert none.best is None
    assert said.startswith("No capacity keeps the limits: even at 1 slots/layer mean_tpot_ms is ")
    assert said.endswith(", above 20, and at 14 slots/layer it is out of memory.")


def test_a_metric_that_no_run_has_gives_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(
        "name: tiny\nmodel: small-moe\nhardware: rtx-4060-8gb\ntrace: small-moe\n"
        "workload:\n  requests: 2\n  lengths: {kind: fixed, input_len: 9, output_len: 1}\n"
        "  routing: {kind: draw}\n  batching: {kind: continuous}\n"
    )
    asked = ["search", str(file), "--vary", "workload.requests", "--sla", "mean_tpot_ms<=1"]
    assert main([*asked, "-o", str(tmp_path / "out")]) == 0
    assert "at 1 no request has a mean_tpot_ms." in capsys.readouterr().out
    names = {one.name for one in (tmp_path / "out").iterdir()}
    assert names == {"points.csv", "report.json"}


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("of a sweep")
    (tmp_path / "sweep.yaml").write_text("")
    with pytest.raises(InputError, match=r"--out: .* holds files"):
        moesim.search(TINY, BATCH, ["mean_tpot_ms<=1"], out=tmp_path)
    assert (tmp_path / "points.csv").read_text() == "of a sweep"


def test_limits_are_kept_at_their_bound() -> None:
    most, least = Limit.parse("a<=2"), Limit.parse(" b.c >= 1.5e1 ")
    assert (most.holds(2), most.holds(2.1), most.holds(None)) == (True, False, False)
    assert (least.metric, least.holds(15), least.holds(14)) == ("b.c", True, False)


@pytest.mark.usefixtures("rendered")
def test_the_command_draws_what_was_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(
        "name: tiny\nmodel: small-moe\nhardware: rtx-4060-8gb\n"
        "trace: small-moe\nworkload: {requests: 4, batching: {kind: static, batch_size: 1}}\n"
    )
    asked = ["search", str(file), "--vary", BATCH, "--sla", "mean_tpot_ms<=0.001"]
    assert main([*asked, "-o", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "No batch size keeps the limits: even at 1 mean_tpot_ms is" in told.out
    assert "1 tried" in told.err
    assert (tmp_path / "out" / "search.png").is_file()


LOADED: dict[str, Any] = {
    **TINY,
    "software": "vllm",
    "workload": {
        "requests": 60,
        "arrivals": {"kind": "poisson", "request_rate": "400 requests/s"},
        "lengths": {"kind": "random", "input_len": 60, "output_len": 12, "range_ratio": 0.5},
        "routing": {"kind": "draw"},
        "batching": {
            "kind": "continuous",
            "scheduler": {"kind": "vllm", "max_num_seqs": 4, "max_num_batched_tokens": 64},
        },
    },
    "serving": {"slo": {"ttft": "20 ms", "tpot": "5 ms"}, "warm_up": 5},
}
RATE = "workload.arrivals.request_rate"
METRICS = [
    *(f"{which}_{time}_ms" for which in ("mean", "p50", "p90", "p99")
      for time in ("ttft", "tpot", "e2el", "itl")),
]  # fmt: skip
RATES = ["request_goodput", "slo_attainment.all", "slo_attainment.ttft", "output_throughput",
         "request_throughput", "total_token_throughput"]  # fmt: skip


IN_BATCHES = {"kind": "llama.cpp", "max_num_seqs": 4, "n_batch": 128, "n_ubatch": 64}


ENGINES = ["auto", "des", "in batches"]


@cache
def whole(which: str) -> tuple[Any, dict[str, Any]]:
    """An experiment that is too much, and what it says to its end."""
    data = deepcopy({**LOADED, "records": "summary", "engine": "auto"})
    if which == "in batches":
        data["workload"]["batching"]["scheduler"] = IN_BATCHES
    else:
        data["engine"] = which
    experiment = load_experiment(data).experiment
    return experiment, simulate(experiment).summary


def cut_by(experiment: Any, *limits: Limit) -> Limit | None:
    """The limit that ends a run; None: it runs to its end."""
    try:
        simulate(experiment, watch=partial(Verdict, limits, experiment.serving))
    except CertainError as certain:
        return certain.limit
    return None


def number_of(summary: dict[str, Any], metric: str) -> float:
    name, _, part = metric.partition(".")
    return float(summary[name][part] if part else summary[name])


@pytest.mark.parametrize("which", ENGINES)
def test_no_run_is_cut_that_keeps_its_limits(which: str) -> None:
    """All at once: each bound is what the run has at its end, or a hair looser."""
    experiment, summary = whole(which)
    limits = [Limit(one, "<=", number_of(summary, one)) for one in METRICS]
    limits += [Limit(one, "<=", number_of(summary, one)) for one in ("rejected", "preemptions")]
    limits += [Limit(one, ">=", number_of(summary, one)) for one in RATES]
    assert all(one.holds(number_of(summary, one.metric)) for one in limits)
    assert cut_by(experiment, *limits) is None


@pytest.mark.parametrize("metric", [*METRICS, *RATES])
@pytest.mark.parametrize("which", ENGINES)
def test_a_run_that_breaks_a_limit_by_far_is_cut(which: str, metric: str) -> None:
    experiment, summary = whole(which)
    value = number_of(summary, metric)
    limit = Limit(metric, "<=", value / 9) if metric in METRICS else Limit(metric, ">=", value * 9)
    assert cut_by(experiment, limit) == limit


RUNS: dict[str, Any] = {}


def whole_run(experiment: Any, watch: None) -> Any:
    """As ``simulate``; what no limit ends is one run for all of them."""
    assert watch is None
    asked = experiment.model_dump_json()
    if asked not in RUNS:
        RUNS[asked] = simulate(experiment)
    return RUNS[asked]


@pytest.mark.parametrize(
    "limits",
    [["p99_ttft_ms<=15"], ["mean_tpot_ms<=4", "p90_e2el_ms<=60"], ["request_goodput>=100"],
     ["p99_itl_ms<=4"], ["p50_ttft_ms<=1e-6"]],
)  # fmt: skip
def test_cut_runs_find_the_same(limits: list[str]) -> None:
    """The same value, the same one that breaks, and what it says; only who is above says less. A
    run of fewer steps than are foreseen at a time is not cut.
    """
    longer = {**LOADED, "workload": {**LOADED["workload"], "requests": 120}}
    experiment = load_experiment(longer).experiment
    asked = [Limit.parse(one) for one in limits]
    cut = search_of(experiment, RATE, asked)
    with patch("moesim.sweep.search.simulate", whole_run):
        full = search_of(experiment, RATE, asked, cut=False)
    assert sentence(cut) == sentence(full)
    for one, other in ((cut.best, full.best), (cut.first_broken, full.first_broken)):
        assert one == other
    assert [one.text for one in cut.probes] == [one.text for one in full.probes]
    assert [one.passed for one in cut.probes] == [one.passed for one in full.probes]
    for one in cut.probes:
        assert one.status in ("ok", "cut_short")
    if "itl" not in limits[0] and len(cut.probes) > 2:  # gaps are known late
        assert any(one.status == "cut_short" for one in cut.probes)


def test_a_number_of_what_is_null_is_told_so(tmp_path: Path) -> None:
    path, out = "serving.disaggregation.prefill", tmp_path / "one"
    with pytest.raises(InputError, match=r"'serving(\.disaggregation)?' is null; set it in the"):
        moesim.search(SERVED, path, ["p99_tpot_ms<=4"], out=out)


def test_a_service_that_does_not_keep_up_can_be_a_limit(tmp_path: Path) -> None:
    workload = {
        "requests": 100,
        "arrivals": {"kind": "poisson", "request_rate": "2000 requests/s"},
        "lengths": {"kind": "fixed", "input_len": 20, "output_len": 20},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous", "scheduler": {"kind": "vllm", "max_num_seqs": 2}},
    }
    path, asked = "workload.arrivals.request_rate", ["saturated<=0"]
    found, _ = moesim.search({**TINY, "workload": workload}, path, asked, out=tmp_path / "out")
    assert found.best is not None
    assert found.first_broken is not None
    assert (found.best.numbers["saturated"], found.first_broken.numbers["saturated"]) == (0, 1)
    assert found.best.value < found.first_broken.value <= 2000


def test_two_numbers_to_vary_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["--vary", "workload.requests", "--vary", BATCH]
    assert main(["search", "experiments/serving.yaml", *paths, "--sla", "p99_tpot_ms<=5"]) == 2
    assert "--vary: 2 paths are given, and one number is searched" in capsys.readouterr().err
