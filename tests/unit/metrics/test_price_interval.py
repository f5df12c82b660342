"""How far a run's speed moves with what its prices may be off by."""

from __future__ import annotations

from dataclasses import replace
from shutil import copy

import numpy as np
import pytest
import yaml

import moesim
from moesim.calibrate.published.predict import judged_by_others
from moesim.config.files.paths import shipped_folder
from moesim.hardware import load_software
from moesim.hardware.described.reached import (
    EXPERT_PARALLEL,
    EXPERTS,
    FAULTS_BYTES_PER_S,
    VERSIONS,
    copies_reach,
    experts_reach,
    faults_reach,
)
from moesim.hardware.described.sourced import Ranged
from moesim.hardware.operations.experts.error import LEFT_OUT
from moesim.hardware.operations.kernels.cpu_expert import FITTED_OFF
from moesim.hardware.price_errors import Spread, _together, without_variant
from moesim.hardware.prices.provenance import SOURCES, Source
from moesim.metrics.intervals import Difference
from moesim.metrics.price_interval import (
    DRAWS,
    FROM_DRIVE,
    GUESSED,
    STAND_IN,
    STAND_IN_MISSES,
    TAILS,
    TIMED,
    factors,
    price_interval,
    speed_apart,
    speed_reason,
    time_drawn,
    time_limits,
)
from moesim.metrics.priced_time import PricedTime, calls_of_copies, with_calls
from moesim.metrics.served_interval import _limits_of_places, _scaled
from moesim.report.amounts import number
from moesim.report.comparison.intervals import BY_PRICES, sentence, verdict
from moesim.report.comparison.sides import compare
from moesim.report.run.trust import price_interval_line, trust_lines
from moesim.results.result import Result

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
    limits = time_limits([row("datasheet of rtx-4090", 1.0, 1 / 1.1675, 1.1675)])
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
    assert front["mean_tpot_ms"][1] < 1.3


@pytest.mark.usefixtures("played_again")
def test_who_does_not_want_that_runs_once():
    rare = {"kind": "poisson", "request_rate": "1 requests/s"}
    off = served(rare, serving={"price_interval": "never"}).summary["price_interval"]
    assert not set(KEYS) & set(off)
    assert times_of(served(rare, serving={"price_interval": "always"})) == times_of(served(rare))


def run(**changes):
    experiment = {
        "model": "gpt-oss-20b",
        "trace": "traces/quickstart.parquet",
        "workload": {"batching": {"kind": "static", "batch_size": 1}, "requests": 2},
        **changes,
    }
    return moesim.run(experiment).summary


def test_a_card_without_measurements_is_off_as_other_cards_were():
    found = run(hardware="rtx-4090", software="ideal")["price_interval"]
    (only,) = found["factors"]
    assert only["of"] == "datasheet of rtx-4090"
    assert only["share"] == pytest.approx(1)
    assert only["high"] == 1 + np.median([p90 for _, p90 in LEFT_OUT.values()]) / 100
    speed = found["output_throughput"]
    assert speed["low"] * only["high"] == pytest.approx(speed["value"], rel=NEAR)


def test_a_measured_card_is_off_as_its_fits_were():
    summary = run(hardware="h100-sxm")
    rows = summary["price_interval"]["factors"]
    assert sum(one["share"] for one in rows) == pytest.approx(1)
    measured = [one for one in rows if one["rests_on"] == "measured"]
    assert measured
    for one in measured:
        assert (one["low"], one["high"]) == pytest.approx(VERSIONS), "what another version changes"
    assert sum(one["share"] for one in measured) == pytest.approx(
        summary["price_share"]["measured"]
    )
    assert {one["of"].split()[0] for one in rows} >= {"experts", "attention", "datasheet"}
    line = price_interval_line(summary)[0]
    assert line.startswith("prices: ")
    assert "attention of h100-sxm (interpolated) -" in line
    assert "experts of h100-sxm (measured) -19 to +27 %" in line


def test_a_hosts_prior_is_its_range():
    machine = {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb"}
    summary = run(hardware=machine, software="llama.cpp", experts={"on_cpu": {"layers": 24}})
    rows = {one["of"]: one for one in summary["price_interval"]["factors"]}
    host = rows["experts on the CPU of hosts with 2 channels of DDR4"]
    least, most = experts_reach()
    assert (least, most) == pytest.approx((0.2597, 1.0), abs=0.001), "ten hosts, 29 to 82 %"
    assert (host["low"], host["high"]) == pytest.approx((0.5 / most, 0.5 / least))
    own = rows["software llama.cpp"]
    assert (own["low"], own["high"]) == pytest.approx((0.5, 2.0)), "its waits, 5 to 20 of 10 us"


@pytest.mark.parametrize(
    ("source", "cores", "ends"),
    [
        ("measured, sums of 1 GiB", 16, (0.88, 1.35)),
        ("measured, sums of 1 GiB", 17, (0.88, 3.125)),
        ("my page", 16, (None, None)),
    ],
)
def test_of_a_host_whose_reads_were_measured_products_are_unsure(
    source: str, cores: int, ends: tuple[float | None, float | None]
) -> None:
    share = {"value": "60 %", "source": source}
    host = {"base": "ddr4-3200-2ch-64gb", "expert_fraction": share, "cores": cores}
    summary = run(
        hardware={"gpu": "rtx-3090", "host": host},
        software="llama.cpp",
        experts={"on_cpu": {"layers": 24}},
    )
    (row,) = (one for one in summary["price_interval"]["factors"] if "on the CPU" in one["of"])
    assert (row["low"], row["high"]) == pytest.approx(ends)


def test_a_host_is_judged_by_the_others():
    """Without the 7950X, which reaches most, nine are left, which reach less."""
    own = "ryzen-9-7950x-ddr5-5600-2ch"
    logs = np.log([one.share for one in EXPERTS if one.host != own])
    middle, width = logs.mean(), 1.8595 * logs.std(ddof=1) * np.sqrt(1 + 1 / 9)
    assert experts_reach(own) == pytest.approx((np.exp(middle - width), np.exp(middle + width)))
    machine = {"gpu": "rtx-5070", "host": "ddr5-5600-2ch-64gb"}
    summary = run(hardware=machine, software="llama.cpp", experts={"on_cpu": {"layers": 24}})
    assert judged_by_others(summary, "somebody's") is summary
    found = judged_by_others(summary, own)["price_interval"]
    (row,) = [one for one in found["factors"] if one["of"].startswith("experts on the CPU")]
    least, most = experts_reach(own)
    assert (row["low"], row["high"]) == pytest.approx((0.5 / most, 0.5 / least))
    before = summary["price_interval"]["output_throughput"]
    assert found["output_throughput"]["high"] < before["high"]
    assert found["output_throughput"]["value"] == before["value"]


def test_hosts_are_those_that_were_fitted():
    """But for those of packs that judge the range: their experiments are called 'offload-...'."""
    folder = shipped_folder() / "hardware_profiles" / "hosts"
    fitted = {}
    for path in folder.glob("*.yaml"):
        host = yaml.safe_load(path.read_text(encoding="utf-8"))
        share, given = host.get("expert_fraction"), " ".join(host["sources"].values())
        if share and share["source"] == "run" and "in the experiment offload-" not in given:
            fitted[path.stem] = float(share["value"].removesuffix(" %")) / 100
    assert fitted == pytest.approx({one.host: one.share for one in EXPERTS})


DDR5 = "ddr5-5600-2ch-96gb"


@pytest.mark.parametrize(
    ("host", "together"),
    [
        ("ddr5-6400-2ch-96gb", True),
        ({"base": DDR5, "memory_bandwidth": "102.4 GB/s"}, True),
        ({"base": DDR5, "cores": 16}, True),
        ({"base": DDR5, "cores": 8}, False),
        ({"base": DDR5, "memory_bandwidth": "460 GB/s"}, False),
        ("epyc-9004-1s", False),
    ],
)
def test_hosts_of_one_kind_are_off_together_however_they_are_written(host, together):
    """One question had two answers: ddr5-6400 by its name was not distinguishable from ddr5-5600,
    and by its bandwidth it was, as was a bandwidth of 460 GB/s, which no such memory has.
    """

    def made_on(of):
        machine = {"gpu": "rtx-4090", "host": of}
        layers = {"experts": {"on_cpu": {"layers": 24}}}
        return run(hardware=machine, software="llama.cpp", **layers)["price_interval"]

    low, high = speed_apart(10.0, made_on(host), made_on(DDR5)) or (0.0, 0.0)
    assert (low > 0) is together
    assert (high - low < 20) is together


def test_a_whole_machines_host_is_of_the_kind_that_stands_in_its_place():
    layers = {"software": "llama.cpp", "experts": {"on_cpu": {"layers": 24}}}
    for hardware, kind in (
        ("rtx-4090", "2 channels of DDR5"),
        ({"base": "rtx-4090", "host": "epyc-7003-1s"}, "8 channels of DDR4"),
        ({"base": "rtx-4090", "host": {"memory_bandwidth": "96 GB/s"}}, "2 channels of DDR5"),
    ):
        rows = run(hardware=hardware, **layers)["price_interval"]["factors"]
        (found,) = (one["of"] for one in rows if one["of"].startswith("experts on the CPU"))
        assert found == f"experts on the CPU of hosts with {kind}"


def test_variants_of_one_software_are_off_together_and_versions_apart():
    """llama.cpp and llama.cpp-no-mmap had been as unlike as two engines."""
    names = ("llama.cpp-no-mmap", "llama.cpp", "llama.cpp@b8xxx", "hf-eager", "my-own")
    assert [without_variant(name) for name in names] == ["llama.cpp", *names[1:]]


def test_a_nearly_full_host_may_read_from_its_drive():
    """9.5 GiB of experts in 12, of which a system may take 4: 15 % of them by page faults."""
    host = {"base": "ddr4-3200-2ch-64gb", "memory": "12 GiB"}
    machine = {"gpu": "rtx-3090", "host": host}
    layers = {"software": "llama.cpp", "experts": {"on_cpu": {"layers": 24}}}
    summary = run(hardware=machine, **layers)
    rows = {one["of"]: one for one in summary["price_interval"]["factors"]}
    found, cpu = rows[FROM_DRIVE], rows["experts on the CPU of hosts with 2 channels of DDR4"]
    needed = summary["host_memory_bytes"]
    assert needed == pytest.approx(24 * 32 * 3 * 2880 * 2880 * 17 / 32, rel=0.01)
    times = 1 + (1 - 8 * 2**30 / needed) * 0.5 * 51.2e9 / FAULTS_BYTES_PER_S
    assert (found["low"], found["high"]) == pytest.approx((1.0, times), rel=1e-3)
    assert found["share"] == pytest.approx(cpu["share"])
    assert (
        f"9.5 of its 12.0 GiB, and no drive is named: with 4 GiB for its system some are read by"
        f" page faults, and they may take up to {times:.1f} times as long"
        in summary["host_notes"][1]
    )
    roomy = {"gpu": "rtx-3090", "host": {**host, "memory": "16 GiB"}}
    summary = run(hardware=roomy, **layers)
    assert FROM_DRIVE not in {one["of"] for one in summary["price_interval"]["factors"]}
    assert "drive" not in "".join(summary["host_notes"])


def test_page_faults_are_off_as_those_of_other_drives_were():
    """A quarter of the experts in memory; 230 MB/s of 9.3 GB/s were seen, and 5.5 of 12.4. Reads of
    the engine's own, and a rate that the user gives, have no error that is known.
    """
    least, most = faults_reach()
    assert (least, most) == pytest.approx((0.0247, 0.4435), abs=1e-4)

    def rows_of(path, **storage):
        machine = {**MACHINE, "storage": {"base": "nvme-pcie4", **storage}}
        host = {"capacity": "25 %", "path": path}
        experts = {"on_cpu": {"layers": 24}, "host": host}
        summary = run(hardware=machine, software="llama.cpp", experts=experts)
        return {one["of"]: one for one in summary["price_interval"]["factors"]}

    found, share = rows_of("auto")["page faults on storage"], 3.1 / 7
    assert (found["low"], found["high"]) == pytest.approx((share / most, share / least))
    assert found["share"] > 0.2
    assert rows_of("direct")["storage"]["low"] is None
    own = {"mapped_bandwidth": {"value": "2 GB/s", "source": "fio of 12 May, 16 threads"}}
    assert rows_of("auto", **own)["page faults on storage"]["low"] is None


def test_a_gpus_part_of_the_experts_is_off_as_tables_of_parts_say():
    """Beside what another version of an engine changes."""
    of = "experts of h100-sxm"
    shared = run(hardware="h100-sxm", parallelism={"expert": 2})["price_interval"]["factors"]
    measured = {one["rests_on"]: one for one in shared if one["of"] == of}
    ends = _together([VERSIONS, EXPERT_PARALLEL])
    assert (measured["measured"]["low"], measured["measured"]["high"]) == pytest.approx(ends)


MACHINE = {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb", "link": "pcie4-x16"}


def link_of(summary):
    rows = {one["of"]: one for one in summary["price_interval"]["factors"]}
    return rows["link of rtx-3090 and hosts with 2 channels of DDR4"]


def test_a_link_is_off_as_other_machines_were():
    """26.2 of 31.5 GB/s pinned where others had 39 to 88 %; pageable 10.3 where they had 3.75 to
    22.7 GB/s; a number that the user gives counts as right."""
    experts = {"capacity": "8 slots/layer"}
    least, most = copies_reach(31.5, pinned=True)
    assert (least, most) == pytest.approx((12.3, 31.5 * 55.63 / 63))
    found = link_of(run(hardware=MACHINE, experts=experts, software="ideal"))
    assert (found["low"], found["high"]) == pytest.approx((26.2 / most, 26.2 / least))
    found = link_of(run(hardware=MACHINE, experts=experts, software="hf-eager"))
    assert (found["low"], found["high"]) == pytest.approx((10.3 / 22.7, 10.3 / 3.75))
    own = {"base": "pcie4-x16", "copies": {"h2d": {"pinned": {"bandwidth": "25 GB/s"}}}}
    found = link_of(run(hardware={**MACHINE, "link": own}, experts=experts, software="ideal"))
    assert found["low"] is None


def test_pageable_copies_reach_what_a_thread_stages_whatever_the_slot():
    """13.1 GB/s over eight lanes of PCIe 4.0 could be 2.8, less than any machine had, and was past
    what any had as a share of its slot. No copy is faster than a pinned one.
    """
    assert copies_reach(15.75, pinned=False) == pytest.approx((3.75, 15.75 * 55.63 / 63))
    assert copies_reach(63.0, pinned=False) == (3.75, 22.7)
    assert copies_reach(3.94, pinned=False) == copies_reach(3.94, pinned=True)
    machine = {"gpu": "rtx-4060-8gb", "host": "ddr5-5600-2ch-64gb"}
    summary = run(hardware=machine, experts={"capacity": "8 slots/layer"}, software="hf-eager")
    (found,) = (one for one in summary["price_interval"]["factors"] if "link" in one["of"])
    ends = 13.1 * 63 / 55.63 / 15.75, 13.1 / 3.75
    assert (found["low"], found["high"]) == pytest.approx(ends)


def test_errors_that_are_independent_add_in_quadrature():
    low, high = _together([(0.8, 1.25), (0.8, 1.25)])
    width = 1.25 ** np.sqrt(2)
    assert (low, high) == pytest.approx((1 / width, width))
    assert _together([]) == (None, None)


def test_calls_of_copies_that_are_waited_for_are_the_softwares():
    spent = PricedTime({"copy": np.array([0.0, 0, 0, 60, 0]), "gate": np.array([30.0] * 5)}, 10.0)
    found = with_calls(spent, calls_of_copies(spent, 45))
    assert float(found.priced["copy"].sum()) == 15
    assert (found.host, found.total) == (55, spent.total)
    assert with_calls(spent, calls_of_copies(spent, 100)).priced["copy"].sum() == 0
    assert with_calls(PricedTime({}, 5.0), calls_of_copies(PricedTime({}, 5.0), 100)).host == 5
    waits = {"hardware": MACHINE, "software": "imp@1365", "experts": {"capacity": "8 slots/layer"}}
    summary = run(**waits)
    rows = {one["of"]: one for one in summary["price_interval"]["factors"]}
    tokens_ns = 1e6 * summary["duration_ms"]
    calls = 3 * 99_000 * summary["misses"] / tokens_ns
    assert rows["software imp@1365"]["share"] == pytest.approx(
        calls + summary["time_share"]["host"], rel=0.01
    )


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


def test_a_stand_in_may_miss_more_or_less_than_the_trace_would():
    cached = {"hardware": MACHINE, "software": "ideal", "experts": {"capacity": "8 slots/layer"}}
    summary = run(**cached, trace="stand-in:qwen3-30b-a3b")
    rows, missed = summary["price_interval"]["factors"], 1 - summary["hit_ratio_per_expert"]
    (found,) = [one for one in rows if one["of"] == STAND_IN]
    copies = [one for one in rows if one["of"].startswith("link")]
    assert found["share"] == pytest.approx(sum(one["share"] for one in copies))
    low, high = STAND_IN_MISSES
    assert (found["low"], found["high"]) == (low, min(high, 1 / missed))
    experts = {"capacity": "8 slots/layer", "policy": {"kind": "stream"}}
    streamed = {**cached, "experts": experts}
    rows = run(**streamed, trace="stand-in:qwen3-30b-a3b")["price_interval"]["factors"]
    assert STAND_IN not in {one["of"] for one in rows}, "all miss, whatever the trace"
    for there in ({"host_layers": 24}, {"experts": {"on_cpu": {"layers": 24}}}):
        machine = {"hardware": MACHINE, "software": "ideal", "trace": "stand-in:qwen3-30b-a3b"}
        found = [
            one
            for one in run(**machine, **there)["price_interval"]["factors"]
            if one["of"] == STAND_IN
        ]
        assert sum(one["share"] for one in found) == 0, "all are the CPU's, whatever the trace"
    real = run(**cached)["price_interval"]["factors"]
    assert STAND_IN not in {one["of"] for one in real}


def test_a_miss_has_its_calls_too():
    """Where the host waits for each copy, most of a miss is its calls, which are the software's."""
    waits = {"hardware": MACHINE, "software": "imp@1365", "experts": {"capacity": "8 slots/layer"}}
    summary = run(**waits, trace="stand-in:qwen3-30b-a3b")
    rows = {one["of"]: one for one in summary["price_interval"]["factors"]}
    waited = summary["time_share"]["waiting_for_weights"]
    assert rows[STAND_IN]["share"] == pytest.approx(waited, rel=0.01)
    assert rows["link of rtx-3090 and hosts with 2 channels of DDR4"]["share"] < waited


def test_the_softwares_own_range_is_that_of_what_it_does():
    known = load_software("vllm")
    assert known.range_of(serves=False) == pytest.approx((1, 100 / 30))
    assert known.range_of(serves=True) == pytest.approx((0.5, 2))
    assert load_software("ideal").range_of(serves=False) is None
    with pytest.raises(ValueError, match="do not ascend"):
        Ranged[float](value=3.0, low=4.0, source="a")


def test_a_card_of_a_maker_of_whom_nothing_was_measured_has_no_interval() -> None:
    def run(gpu: str, slots: int = 8) -> Result:
        machine = {"hardware": {"gpu": gpu, "host": "ddr5-6000-2ch-64gb"}}
        source = {"model": "small-moe", "trace": "traces/small-moe.parquet", "software": "ideal"}
        return moesim.run(source | machine | {"experts": {"capacity": f"{slots} slots/layer"}})

    amd, slower, nvidia = run("rx-7900-xtx", 32), run("rx-7900-xtx", 31), run("rtx-3090", 32)
    made = amd.summary["price_interval"]
    assert made["reason"] == GUESSED
    assert made["output_throughput"]["low"] is None
    assert made["unknown_share"] > 0.9
    assert nvidia.summary["price_interval"]["output_throughput"]["low"] is not None
    told = "\n".join(trust_lines(amd.summary))
    assert "warning: datasheet prices; kernels of AMD's GPUs: too few" in told
    without_matrix_units = run("p40", 32).summary
    assert without_matrix_units["price_interval"]["output_throughput"]["low"] is None
    assert "kernels of GPUs without matrix units" in "\n".join(trust_lines(without_matrix_units))
    prices = [one.summary["price_interval"] for one in (amd, slower, nvidia)]
    assert speed_reason(prices[0], prices[1]) is None  # both are off by as much
    assert speed_reason(prices[0], prices[2]) == GUESSED


def test_a_host_fitted_to_a_run_is_off_by_what_its_other_runs_are() -> None:
    """Such a run had an interval of less than a percent, with 99 % of its time left out."""
    host = "ryzen-9-7950x-ddr5-5600-2ch"
    source = {
        "model": "small-moe", "trace": "small-moe", "software": "ideal",
        "hardware": {"gpu": "rtx-3090", "host": host}, "experts": {"on_cpu": {"layers": 6}},
    }  # fmt: skip
    made = moesim.run(source).summary["price_interval"]
    (row,) = [one for one in made["factors"] if one["of"] == f"experts on the CPU of {host}"]
    assert (row["low"], row["high"]) == FITTED_OFF
    assert row["share"] > 0.2
    speed = made["output_throughput"]
    assert speed["low"] < speed["value"] * (1 - 0.4 * row["share"])
    assert speed["high"] > speed["value"] * (1 + 0.4 * row["share"])


@pytest.mark.parametrize("fitted", [True, False])
def test_a_drive_and_a_gpu_fitted_to_a_run_are_off_as_hosts_are(fitted: bool) -> None:
    """A phone's reads had counted as right, and its kernels as those of NVIDIA's cards."""
    source = "fitted to one run: 2 tokens/s" if fitted else "measured"
    machine = {
        "gpu": {"base": "phone-12gb", "bandwidth_fraction": {"value": "15 %", "source": source}},
        "storage": {"base": "ufs-4", "latency": {"value": "850 us", "source": source}},
    }
    run = moesim.run({
        "model": "qwen3-30b-a3b@q4_k_m", "hardware": machine, "trace": "qwen3-30b-a3b",
        "software": "ideal", "workload": {"requests": 1, "phase": "decode"},
        "experts": {"capacity": "4 GB", "policy": {"kind": "lru", "scope": "global"}},
    }, records="summary")  # fmt: skip
    rows = {
        row["of"]: (row["low"], row["high"]) for row in run.summary["price_interval"]["factors"]
    }
    assert rows["storage"] == (FITTED_OFF if fitted else (None, None))
    assert (rows["datasheet of phone-12gb"] == FITTED_OFF) is fitted


def test_a_machine_of_one_name_is_named_once() -> None:
    """It was the link of rtx-4060-8gb and rtx-4060-8gb."""
    given = {"model": "small-moe", "trace": "small-moe", "hardware": "rtx-4060-8gb"}
    summary = moesim.run(given | {"experts": {"capacity": "8 slots/layer"}}).summary
    assert "link of rtx-4060-8gb" in [row["of"] for row in summary["price_interval"]["factors"]]


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
