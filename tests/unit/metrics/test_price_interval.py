"""How far a run's speed, and its times, move with what all its prices may be off by."""

from __future__ import annotations

from dataclasses import replace
from shutil import copy

import numpy as np
import pytest

import moesim
from moesim.config.files.paths import shipped_folder
from moesim.hardware import load_software
from moesim.hardware.described.reached import VERSIONS
from moesim.hardware.price_errors import Spread, _together
from moesim.hardware.prices.provenance import SOURCES, Source
from moesim.metrics.intervals import Difference
from moesim.metrics.price_interval import (
    DRAWS,
    STAND_IN,
    TAILS,
    TIMED,
    factors,
    price_interval,
    speed_apart,
    time_apart,
    time_drawn,
    time_limits,
)
from moesim.metrics.priced_time import PricedTime
from moesim.metrics.served_interval import _limits_of_places, _scaled
from moesim.report.amounts import number
from moesim.report.comparison.intervals import BY_PRICES, sentence, verdict
from moesim.report.comparison.sides import compare
from moesim.report.run.trust import price_interval_line

TIMES, NEAR = 1.2, 1e-4


def row(of="experts of a", share=1.0, low=1 / TIMES, high=TIMES):
    return {"of": of, "share": share, "low": low, "high": high}


def made(*rows, speed=100.0):
    return price_interval({"output_throughput": speed}, list(rows))


def test_a_run_of_one_kind_of_price_moves_as_far_as_that():
    assert time_limits([row()]) == pytest.approx((1 / TIMES, TIMES), rel=NEAR)
    found = made(row())["output_throughput"]
    assert found["low"] == pytest.approx(100 / TIMES, rel=NEAR)
    assert found["high"] == pytest.approx(100 * TIMES, rel=NEAR)


def test_only_its_share_of_the_time_moves():
    low, high = time_limits([row(share=0.25)])
    assert (low, high) == pytest.approx(
        (1 - 0.25 * (1 - 1 / TIMES), 1 + 0.25 * (TIMES - 1)), rel=NEAR
    )


def test_what_is_off_together_adds_up_and_what_is_not_adds_in_quadrature():
    together = time_limits([row(share=0.5), row(share=0.5)])
    assert together == pytest.approx((1 / TIMES, TIMES), rel=NEAR)
    low, high = time_limits([row(share=0.5), row("copies of a", 0.5)])
    width = (high - low) / (TIMES - 1 / TIMES)
    assert width == pytest.approx(1 / np.sqrt(2), rel=0.1)


def test_a_side_of_its_own_is_kept():
    low, high = time_limits([row(low=0.7, high=1.7)])
    assert (low, high) == pytest.approx((0.7, 1.7), rel=NEAR)


def test_names_draw_apart_and_always_the_same():
    one, other = (time_drawn([row(of)]) for of in ("experts of a", "experts of b"))
    assert np.array_equal(one, time_drawn([row("experts of a")]))
    assert np.array_equal(np.sort(one), np.sort(other))
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(DRAWS)


def test_what_two_runs_share_does_not_set_them_apart():
    same = made(row()), made(row())
    assert speed_apart(10.0, *same) == pytest.approx((10.0, 10.0))
    found = speed_apart(10.0, made(row()), made(row("experts of b")))
    assert found is not None
    assert found[0] < 0
    assert found[1] > 10
    assert speed_apart(10.0, made(row(low=None, high=None)), made(row())) is None
    assert speed_apart(10.0, None, made(row())) is None


def test_a_time_between_tokens_is_as_open_as_the_speed_of_which_it_is_the_inverse():
    """It was 'different' beside a speed that prices leave open."""
    pair = made(row(share=0.5), row("link of a", 0.5)), made(row("experts of b"))
    low, high = speed_apart(25.0, *pair) or (0.0, 0.0)
    slower = time_apart(100 * (1 / 1.25 - 1), *pair)
    assert slower == pytest.approx([1e4 / (100 + end) - 100 for end in (high, low)], rel=NEAR)
    assert time_apart(10.0, pair[0], pair[0]) == pytest.approx((10.0, 10.0))
    assert time_apart(10.0, pair[0], made(row(low=None, high=None))) is None
    assert time_apart(10.0, None, pair[0]) is None


def test_a_time_between_tokens_moves_as_what_is_not_idle():
    """And also where throughput follows what arrives."""
    within = {**row("misses", 0.25), "within": [{"of": "experts of a", "rests_on": None,
                                                 "share": 0.25}]}  # fmt: skip
    half, whole = ([{**row(share=share), "rests_on": None}] for share in (0.5, 1.0))
    clock = price_interval({"output_throughput": 1.0}, half, timed=True)
    other = made(row("experts of b"))
    assert speed_apart(0.0, clock, other) is None
    assert time_apart(0.0, clock, other) == time_apart(0.0, made(*whole), other)
    twice = {**within, "share": 0.5, "within": [{**within["within"][0], "share": 0.5}]}
    assert time_apart(0.0, made(*half, within), other) == time_apart(
        0.0, made(*whole, twice), other
    )


def test_other_kernels_on_one_card_are_off_apart():
    """One card, experts of two engines' fits: each fit was made of tables of its own."""
    vllm, sglang = ({**row(), "fits": fits} for fits in (["a", "b"], ["c"]))
    some = {**row(), "fits": ["b", "d"]}
    for pair in ((vllm, vllm), (vllm, some), (vllm, row()), (row(), sglang)):
        assert speed_apart(10.0, *map(made, pair)) == pytest.approx((10.0, 10.0))
    found = speed_apart(10.0, made(vllm), made(sglang))
    assert found == pytest.approx((-15, 42), abs=3)
    assert made(vllm)["output_throughput"] == made(sglang)["output_throughput"]


def test_engines_are_off_apart_and_policies_together():
    def played(software, **experts):
        names = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "quickstart"}
        found = {**names, "software": software, "experts": experts, "workload": {"requests": 1}}
        return moesim.run(found).summary["price_interval"]

    made_by = [played("vllm"), played("sglang"), played("trtllm")]
    fits = [
        next(one["fits"] for one in found["factors"] if one["of"] == "experts of h100-sxm")
        for found in made_by
    ]
    assert not {*fits[0]} & {*fits[1]}
    assert not {*fits[0]} & {*fits[2]}
    low, high = speed_apart(5.0, *made_by[:2]) or (0.0, 0.0)
    assert low < 0 < high
    lifo = played("vllm", policy={"kind": "lifo"})
    assert speed_apart(5.0, made_by[0], lifo) == pytest.approx((5.0, 5.0))


def test_nothing_is_ranked_within_the_prices_errors():
    unknown = Difference(3.0, 2.0, 4.0, paired=True, kind="batch", blocks=20)
    inside = replace(unknown, price_low=-1.0, price_high=7.0)
    outside = replace(unknown, price_low=1.0, price_high=5.0)
    assert [one.distinguishable for one in (inside, outside, unknown)] == [False, True, True]
    assert verdict(inside) == BY_PRICES
    assert "are not distinguishable by such prices: 3.0 %" in sentence("a", "b", inside)
    assert "[1.0, 5.0] by the prices' errors" in sentence("a", "b", outside)
    assert verdict(replace(inside, low=None, high=None, reason="few")) == BY_PRICES
    assert verdict(replace(outside, low=None, high=None, reason="few")) == "few"
    few = replace(inside, low=None, high=None, reason="few")
    assert "not distinguishable by such prices" in sentence("a", "b", few)


def test_shares_are_of_the_whole_time():
    spent = PricedTime({"experts": np.array([0.0, 30, 0, 10, 0])}, 10.0)

    def spread(kind, source):
        return Spread("datasheet") if source is Source.DATASHEET else Spread(kind, 0.9, 1.1)

    rows = factors(spent, spread, 0.5)
    assert {one["of"]: one["share"] for one in rows} == pytest.approx(
        {"experts": 0.3, "datasheet": 0.1, "software": 0.1}
    )
    assert made(*rows)["unknown_share"] == pytest.approx(0.2)
    nothing = made(row(low=None, high=None))
    assert nothing["output_throughput"] == {"value": 100.0, "low": None, "high": None}
    told = price_interval_line({"status": "ok", "price_interval": nothing})
    assert told == [
        "no interval of the prices; no error is known of experts of a (100.0 % of time)"
    ]


def test_a_family_has_a_row_for_what_its_prices_rest_on():
    """Off together, each by its own limits, and told apart; nothing without an error is lost."""
    spent = PricedTime({"experts": np.array([40.0, 0, 20, 10, 30])}, 0.0)
    ends = {Source.FITTED: (0.9, 1.1), Source.OUTSIDE: (0.5, 2.0)}

    def spread(kind, source):
        low, high = ends.get(source, (None, None))
        return Spread("experts of a", low, high, SOURCES[source])

    rows = factors(spent, spread, 0.0)
    (line,) = price_interval_line({"status": "ok", "price_interval": made(*rows)})
    assert "over experts of a (outside) -50 to +100 %, experts of a (fitted) -10 to +10 %" in line
    assert line.endswith(
        "no error is known of experts of a (measured, 40.0 % of time),"
        " experts of a (datasheet, 10.0 % of time)"
    )
    assert "known" not in line.partition(";")[0]
    slower = 0.2 * 1.1 + 0.3 * 2.0 + 0.5
    assert time_limits(rows)[1] == pytest.approx(slower, rel=NEAR), "in the same draw"


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (1.0, 4.01, "+0 to +301 % (priced at the fastest known)"),
        (0.5, 1.0, "-50 to +0 % (priced at the slowest known)"),
    ],
)
def test_an_interval_that_ends_at_its_value_says_why(low, high, told):
    """Copies at the best rate that a machine reached: no lower end had looked like a mistake."""
    spent = PricedTime({"copy": np.array([0.0, 0, 0, 0, 100.0])}, 0.0)
    rows = factors(spent, lambda *_: Spread("link of a", low, high), 0.0)
    (line,) = price_interval_line({"status": "ok", "price_interval": made(*rows)})
    assert f"over link of a {told}" in line


OWN = {"model": "small-moe"}


@pytest.fixture(autouse=True)
def recorded_by_the_user(tmp_path, monkeypatch):
    """No text but that of the trace: prices alone move what is served."""
    own = copy(shipped_folder() / "traces" / "small-moe.parquet", tmp_path / "own.parquet")
    monkeypatch.setitem(OWN, "trace", str(own))


def served(arrivals, software="ideal", **more):
    lengths = {"kind": "fixed", "input_len": 40, "output_len": 12}
    batching = {"kind": "continuous"}
    workload = {"requests": 12, "arrivals": arrivals, "lengths": lengths, "batching": batching}
    workload["routing"] = {"kind": "draw"}
    machine = {"hardware": "rtx-4090", "software": software}
    return moesim.run({**OWN, **machine, "workload": {**workload, **more.pop("of", {})}, **more})


NEVER = {"price_interval": "never"}


@pytest.mark.usefixtures("played_again")
def test_prices_do_not_move_a_throughput_that_is_what_arrives():
    """Neither do they rank it; where ends bring requests, prices move it as ever."""
    timed = served({"kind": "poisson", "request_rate": "2 requests/s"})
    found = timed.summary["price_interval"]
    assert found["reason"] == TIMED
    for name in ("output_throughput", "total_token_throughput"):
        assert found[name] == {"value": timed.summary[name], "low": None, "high": None}
    line, times = price_interval_line(timed.summary)
    assert line.startswith(f"no interval of the prices of the throughput: {TIMED}")
    assert times.startswith("prices: mean TTFT ")
    never = served({"kind": "poisson", "request_rate": "2 requests/s"}, serving=NEVER)
    (line,) = price_interval_line(never.summary)
    assert "; of times to the first and between tokens: --set serving.price_interval=alw" in line
    row = compare(timed, timed)["differences"].iloc[0]
    assert (row["key"], row["verdict"]) == ("output_throughput", TIMED)
    assert row[["low", "high", "price_low", "price_high"]].isna().all()
    for arrivals in ({"kind": "closed_loop", "max_concurrency": 2}, {"kind": "at_once"}):
        other = served(arrivals).summary["price_interval"]
        assert other["reason"] is None
        assert other["output_throughput"]["low"] < other["output_throughput"]["value"]
    assert speed_apart(1.0, found, other) is None
    assert speed_apart(1.0, other, other) is not None


PLACES = ("mean", "median", "p50", "p90", "p95", "p99")
KEYS = [f"{one}_{time}_ms" for time in ("ttft", "tpot", "e2el") for one in PLACES]


def times_of(result):
    """Low and high over the value."""
    made = result.summary["price_interval"]
    assert all(made[key]["value"] == result.summary[key] for key in KEYS)
    return {key: (made[key]["low"] / made[key]["value"], made[key]["high"] / made[key]["value"])
            for key in KEYS}  # fmt: skip


def test_times_of_requests_move_as_the_prices_that_they_rest_on():
    """All of a closed loop without a host scales with its prices; so does the queue in it."""
    for arrivals in ({"kind": "closed_loop", "max_concurrency": 2}, {"kind": "at_once"}):
        result = served(arrivals)
        (only,) = result.summary["price_interval"]["factors"]
        for found in times_of(result).values():
            assert found == pytest.approx((only["low"], only["high"]), rel=1e-3)


def test_a_percentile_moves_as_the_requests_that_it_is_of():
    """Of ten requests six are a front end's, four are twice as uncertain: each place moves as what
    is there, and one between both as both."""
    spread = np.exp(np.linspace(-0.2, 0.2, DRAWS))
    short, long = np.array([1.0] * 6 + [0.0] * 4), np.array([0.0] * 6 + [9.0] * 4)
    parts = {"frontend": short, "experts": long, "idle": np.zeros(10)}
    drawn = {"frontend": spread, "experts": spread[::-1] ** 2}
    found = _limits_of_places(parts, drawn)
    own = {name: np.quantile(of, TAILS, method="hazen") for name, of in drawn.items()}
    assert found[50] == pytest.approx(own["frontend"].tolist())
    for place in (90, 95, 99):
        assert found[place] == pytest.approx(own["experts"].tolist())
    idle = _limits_of_places({"idle": short + long}, drawn)
    assert set(idle.values()) == {(1.0, 1.0)}
    many = {name: np.repeat(of, 100) for name, of in parts.items()}
    assert _limits_of_places(many, drawn)[90] == pytest.approx(own["experts"].tolist())
    assert set(_limits_of_places({"queue": np.zeros(5)}, {"queue": spread}).values()) == {(1, 1)}


@pytest.mark.usefixtures("played_again")
def test_requests_that_come_by_the_clock_are_played_at_both_ends():
    """Alone each moves as its prices do; where they wait for one another by more; a front end that
    is the whole time by its own."""
    rare, often = ({"kind": "poisson", "request_rate": f"{n} requests/s"} for n in (0.01, 600))
    alone = times_of(served(rare))
    off = _together([(1 / 1.1675, 1.1675), VERSIONS])
    limits = time_limits([row("datasheet of rtx-4090", 1.0, *off)])
    for found in alone.values():
        assert found == pytest.approx(limits, rel=0.02)
    four = {"kind": "continuous", "scheduler": {"kind": "vllm", "max_num_seqs": 4}}
    queued = times_of(served(often, of={"requests": 200, "batching": four}))
    assert queued["mean_ttft_ms"][1] > 2 > alone["mean_ttft_ms"][1]
    assert queued["mean_ttft_ms"][0] < 0.5
    front = times_of(served(rare, "vllm"))
    made = load_software("vllm")
    ways = {"frontend_ns": 2, "tokenize_ns": 1, "per_prompt_token_ns": 40}
    ends = made.ends_of(ways)
    assert ends is not None
    low, high = ends
    assert (low, high) == pytest.approx((4.104 / 6.12, 22.212 / 6.12))
    assert front["mean_ttft_ms"] == pytest.approx((low, high), rel=0.15)
    assert front["mean_tpot_ms"][1] < 1.4


@pytest.mark.usefixtures("played_again")
def test_who_does_not_want_that_runs_once():
    rare = {"kind": "poisson", "request_rate": "1 requests/s"}
    off = served(rare, serving={"price_interval": "never"}).summary["price_interval"]
    assert not set(KEYS) & set(off)
    assert times_of(served(rare, serving={"price_interval": "always"})) == times_of(served(rare))


def test_errors_that_are_independent_add_in_quadrature():
    low, high = _together([(0.8, 1.25), (0.8, 1.25)])
    width = 1.25 ** np.sqrt(2)
    assert (low, high) == pytest.approx((1 / width, width))


def test_misses_and_what_one_takes_multiply():
    """All of the time is a drive's, which may be 25 times as fast, and 35 % of the misses fewer:
    with both a run takes 2.6 % of its time, and never less than none.
    """
    drive = row("page faults", share=1.0, low=0.04, high=1.0) | {"rests_on": None}
    within = [{"of": "page faults", "rests_on": None, "share": 1.0}]
    missed = row(STAND_IN, share=1.0, low=0.65, high=1.0) | {"within": within}
    alone, also = time_drawn([drive]), time_drawn([drive, missed])
    assert also.min() > 0
    assert also == pytest.approx(alone * time_drawn([{**missed, "within": None}]))
    unknown = drive | {"low": None, "high": None}
    assert time_drawn([unknown, missed]) == pytest.approx(time_drawn([missed | {"within": None}]))


def test_two_halves_of_a_time_move_as_the_whole_with_what_is_within():
    """A time of a request is made of parts, each of which has the factors of its own."""
    drive = row("page faults", share=0.6, low=0.5, high=2.0) | {"rests_on": None}
    within = [{"of": "page faults", "rests_on": None, "share": 0.6}]
    rows = [drive, row(STAND_IN, share=0.6, low=0.65, high=1.7) | {"within": within}]
    halves = [*_scaled(rows, 0.25), *_scaled(rows, 0.75)]
    assert time_drawn(halves) == pytest.approx(time_drawn(rows))
    assert time_drawn(halves[:2]) - 1 == pytest.approx((time_drawn(rows) - 1) / 4)


def test_a_run_without_answers_has_the_interval_of_its_prompts() -> None:
    """It had been told as 0 [0, 0] tokens/s."""
    prompts = {
        "model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "traces/small-moe.parquet",
        "workload": {"requests": 2, "phase": "prefill"},
    }  # fmt: skip
    summary = moesim.run(prompts).summary
    line, *_ = price_interval_line(summary)
    assert summary["output_throughput"] == 0
    ends = summary["price_interval"]["total_token_throughput"]
    assert 0 < ends["low"] < ends["high"]
    assert line.startswith(f"prices: {number(ends['value'])} [{number(ends['low'])}, ")
