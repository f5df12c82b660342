"""Joules, grams and dollars of a run: by hand, and laws of any numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.engine.case import Case
from moesim.engine.outcome import Outcome
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import resolved_from
from moesim.experiment.running.engines import engine_of
from moesim.experiment.running.run import run
from moesim.hardware import load_hardware
from moesim.hardware.described.price_list import PriceList, priced
from moesim.hardware.energy import Energy, powers_of
from moesim.metrics.energy import GOOD_COST, Bill, Span
from moesim.report.run.rows import energy as energy_rows
from moesim.report.run.trust import trust_lines

ONE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "{gpu: rtx-3060-12gb, host: ddr4-3200-2ch-32gb, storage: nvme-pcie4}",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1},
    "experts": {"capacity": "8 slots/layer", "host": {"capacity": "30 %"}},
    "records": "summary",
}
NOTHING = {"dram": "0 W/GB", "link": "0 pJ/bit"}
WATTS = {"gpu": "170 W", "gpu_waiting": "30 W", "cpu": "65 W", "cpu_idle": "15 W"}
WATTS |= {"storage": "6 W", "storage_idle": "1 W", "other": "40 W"}


def of(energy: Any = None, cost: Any = None, **more: Any) -> dict[str, Any]:
    keys = {"energy": energy, "cost": cost}
    return ONE | more | {key: value for key, value in keys.items() if value is not None}


def played(**more: Any) -> tuple[Case, Outcome, Any]:
    experiment = resolved_from(ONE | more, (), alone=True).experiment
    built = build(experiment, 8)
    engine = engine_of(experiment, built.case, check=False)
    outcome = engine.play(built.case, records="summary", check=False)
    return built.case, outcome, built.hardware


@pytest.fixture(scope="module")
def on_drive() -> tuple[Case, Outcome, Any]:
    return played()


@pytest.fixture(scope="module")
def on_cpu() -> tuple[Case, Outcome, Any]:
    return played(experts={"capacity": "8 slots/layer", "miss": {"kind": "cpu"}})


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 3060 12GB", "RTX-3060-12GB", "rtx-3060"])
def test_a_list_has_a_gpu_by_any_of_its_names(name: str) -> None:
    assert priced("rtx-3060-12gb", {name: 0.2, "rtx-3060-ti": 3.0}) == 0.2
    assert priced("rtx-3060-12gb", {"rtx-3060-ti": 0.2, "rtx-4060-8gb": 3.0}) is None


def test_lists_by_name_are_the_prices_of_the_machine() -> None:
    """The GPU's and the host's of this machine; what else a list has is for others."""
    lists = {"prices": {"rtx-3060-12gb": "300 $", "ddr4-3200-2ch-32gb": "600 $", "a": "1 $"}}
    own = {"card": "300 $", "host": "600 $"}
    bought, rented = {"life": "1 year"}, {"rents": {"rtx-3060-12gb": "0.2 $/h"}}
    for one, other in (
        ({**lists, **bought}, {**own, **bought}),
        ({**lists, **rented, "prices": {}}, {"gpu": "0.2 $/h"}),
    ):
        found, known = (run(of(cost=cost), limit_steps=2).summary for cost in (one, other))
        assert found["cost_usd"] == known["cost_usd"]
    whole = {"hardware": "rtx-4060-8gb", "experts": {"capacity": "8 slots/layer"}}
    rent = {"rents": {"rtx-4060-8gb": "1 $/h"}}
    assert run(of(cost=rent, **whole), limit_steps=2).summary["cost_usd"].keys() == {"rent"}


def test_a_rent_beside_what_is_bought_is_all_that_is_paid() -> None:
    """Host and electricity are of the cards that are bought; it was a tenth too dear with them."""
    lists: dict[str, Any] = {
        "prices": {"rtx-4090": "1600 $", "ddr4-3200-2ch-32gb": "600 $"},
        "life": "1 year",
    }
    rents = {"rents": {"rtx-3060-12gb": "0.2 $/h"}, "electricity": "0.3 $/kWh"}
    found = run(of(WATTS, lists | rents), limit_steps=2).summary
    rent = 0.2 * found["duration_ms"] / 3.6e6
    assert found["cost_usd"] == pytest.approx({"rent": rent}, rel=1e-9)
    alone = {"gpu": "0.2 $/h", "electricity": "0.3 $/kWh"}
    assert "electricity" in run(of(WATTS, alone), limit_steps=2).summary["cost_usd"]


def test_what_each_of_several_gpus_costs_is_told() -> None:
    one: dict[str, Any] = {"model": "gpt-oss-20b", "hardware": "dgx-h100", "trace": "gpt-oss-20b"}
    one |= {"workload": {"requests": 4, "batching": {"kind": "static", "batch_size": 4}}}
    one |= {"parallelism": {"expert": 4}, "cost": {"rents": {"dgx-h100": "3.6 $/h"}}}
    found = run(one, limit_steps=2).summary
    assert found["cost_usd"]["rent"] == pytest.approx(4 * found["duration_ms"] / 1e6)
    told = "rent 3.6 $/h for each of 4 GPUs, also where the list names a machine"
    assert found["cost_notes"] == [told]
    assert f"note: cost: {told}" in trust_lines(found)


def test_a_host_that_nobody_paid_is_told() -> None:
    bought: dict[str, Any] = {"prices": {"rtx-4060-8gb": "300 $"}, "life": "3 years"}
    for more, free in (({}, True), ({"host": "0 $"}, False)):
        machine = {"hardware": "rtx-4060-8gb", "experts": {"capacity": "8 slots/layer"}}
        found = run(of(cost=bought | more, **machine), limit_steps=1).summary
        notes = found.get("cost_notes", [])
        assert any("host: nothing, as none is named" in note for note in notes) == free


def test_a_run_by_hand() -> None:
    """GPU by its shares of the time, memory and the rest by the time, drive and link by bytes."""
    found = run(of(WATTS | {"dram": "0.1 W/GB", "link": "6 pJ/bit"}), limit_steps=6).summary
    seconds, shares = found["duration_ms"] / 1e3, found["time_share"]
    waits = sum(x for key, x in shares.items() if key in ("host", "idle") or "waiting" in key)
    reads = found["bytes_storage"] / 7e9
    assert found["energy_j"] == pytest.approx(
        {
            "gpu": seconds * (170 * (1 - waits) + 30 * waits),
            "cpu": 15 * seconds,
            "storage": 1 * seconds + 5 * reads,
            "dram": 0.1 * 32 * 2**30 / 1e9 * seconds,
            "link": 48e-12 * found["bytes_h2d"],
            "other": 40 * seconds,
        },
        rel=1e-6,
    )
    assert found["total_energy_j"] == pytest.approx(sum(found["energy_j"].values()), rel=1e-12)
    assert found["gpu_energy_j"]["waiting_for_storage"] == pytest.approx(
        30 * found["storage_wait_ms"] / 1e3
    )
    assert found["joules_per_output_token"] == pytest.approx(found["total_energy_j"] / 6)
    assert found["mean_power_w"] == pytest.approx(found["total_energy_j"] / seconds)


def test_grams_and_dollars_by_hand() -> None:
    """100 W for T seconds: 100 T / 3.6e6 kWh; 8,760 hours of a card of 876 $ are 0.1 $ each."""
    energy = NOTHING | {"gpu": "0 W", "cpu": "0 W", "storage": "0 W", "other": "100 W"}
    energy |= {"carbon": "400 g/kWh", "embodied": "87.6 kg", "life": "1 year"}
    cost = {"card": "876 $", "life": "1 year", "electricity": "0.3 $/kWh"}
    found = run(of(energy, cost), limit_steps=4).summary
    hours = found["duration_ms"] / 3.6e6
    grams = {"electricity": 0.1 * hours * 400, "embodied": 10 * hours}
    dollars = {"card": 0.1 * hours, "electricity": 0.1 * hours * 0.3}
    assert found["carbon_g"] == pytest.approx(grams, rel=1e-9)
    assert found["cost_usd"] == pytest.approx(dollars, rel=1e-9)
    per_million = found["cost_usd_per_million_output_tokens"]
    assert per_million == pytest.approx(sum(dollars.values()) / 4 * 1e6)
    assert found["carbon_g_per_million_tokens"] == pytest.approx(sum(grams.values()) / 4 * 1e6)


def test_a_rent_by_hand() -> None:
    """1,000 tokens a second at 3.6 $/h: a million take 1,000 s, which cost 1 $."""
    found = run(of(cost={"gpu": "3.6 $/h"}), limit_steps=4).summary
    expected = 1000 / found["output_throughput"]
    assert found["cost_usd_per_million_output_tokens"] == pytest.approx(expected)
    assert found["cost_usd"].keys() == {"rent"}
    assert not [key for key in found if "energy" in key]


SERVED: dict[str, Any] = {
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "small-moe",
    "workload": {
        "requests": 24,
        "batching": {"kind": "continuous"},
        "arrivals": {"kind": "closed_loop", "max_concurrency": 8},
        "lengths": {"kind": "random", "input_len": 100, "output_len": 20, "range_ratio": 0.9},
        "routing": {"kind": "draw"},
    },
    "cost": {"gpu": "3.6 $/h"},
}


def test_what_good_tokens_cost_is_paid_for_all_over_the_answers_of_good_requests() -> None:
    """A limit at the median of the times of the same run without one: some requests keep it."""
    free = run(SERVED)
    assert GOOD_COST not in free.summary
    limit = {"serving": {"slo": {"e2el": f"{free.summary['p50_e2el_ms']} ms"}}}
    found = run(SERVED | limit)
    requests = found.requests
    lasted = (requests["last_token_ns"] - requests["arrival_ns"]) / 1e6
    good = requests["output_tokens"][lasted <= free.summary["p50_e2el_ms"]]
    assert 0 < len(good) < 24
    paid = found.summary["duration_ms"] / 1000 / 1000  # 3.6 $/h are 0.001 $/s
    assert found.summary[GOOD_COST] == pytest.approx(paid / good.sum() * 1e6)
    assert found.summary[GOOD_COST] > found.summary["cost_usd_per_million_output_tokens"]


def test_no_good_token_has_no_price() -> None:
    found = run(SERVED | {"serving": {"slo": {"e2el": "1 ns"}}}).summary
    assert found[GOOD_COST] is None
    assert ("cost a million good tokens", "no request is good") in energy_rows(found)
    missing = run(
        SERVED | {"memory": {"kv": "100 GiB"}} | {"serving": {"slo": {"e2el": "1 s"}}}
    ).summary
    assert missing["status"] == "out_of_memory"
    assert missing[GOOD_COST] is None


def test_no_power_is_no_energy(on_drive: Any) -> None:
    case, outcome, hardware = on_drive
    keys = dict.fromkeys(("gpu", "cpu", "storage"), "0 W")
    none = Energy.model_validate(NOTHING | keys | {"carbon": "400 g/kWh"})
    found = Bill(hardware, none, None).numbers(case, outcome, 0)
    assert found["total_energy_j"] == found["joules_per_token"] == 0
    assert found["carbon_g"] == {"electricity": 0}


watts = st.integers(0, 1000).map(lambda number: f"{number} W")


@given(st.fixed_dictionaries(dict.fromkeys(WATTS, watts)), st.integers(2, 9), st.data())
def test_laws(on_drive: Any, on_cpu: Any, drawn: dict[str, str], times: int, data: Any) -> None:
    """Parts add up; twice the watts are twice the joules; pieces of a run are its joules."""
    case, outcome, hardware = data.draw(st.sampled_from([on_drive, on_cpu]))
    more = {key: f"{int(text[:-2]) * times} W" for key, text in drawn.items()}
    once, often = (
        Bill(hardware, Energy.model_validate(NOTHING | keys), None) for keys in (drawn, more)
    )
    found, found_more = (bill.numbers(case, outcome, 0) for bill in (once, often))
    assert sum(found["energy_j"].values()) == pytest.approx(found["total_energy_j"])
    assert sum(found["gpu_energy_j"].values()) == pytest.approx(found["energy_j"]["gpu"])
    assert found_more["total_energy_j"] == pytest.approx(times * found["total_energy_j"])
    first = data.draw(st.integers(1, 7))
    rest = once.numbers(case, outcome, first)["total_energy_j"]
    # work is not negative unless a part draws less while it works
    if all(int(drawn[k][:-2]) >= int(drawn[f"{k}_{rest_}"][:-2]) for k, rest_ in PAIRS):
        assert -1e-9 <= rest <= found["total_energy_j"] * (1 + 1e-9)


PAIRS = (("gpu", "waiting"), ("cpu", "idle"), ("storage", "idle"))


def test_the_rest_of_a_run_takes_the_rest_of_its_time(on_drive: Any) -> None:
    case, outcome, _ = on_drive
    whole, rest = (Span.of(case, outcome, first) for first in (0, 3))
    assert rest.seconds == pytest.approx(whole.seconds - int(outcome.ends[2, 0]) / 1e9)
    assert rest.tokens == whole.tokens - 3
    assert sum(rest.charged.values()) == pytest.approx(rest.gpu_seconds)


def test_the_cpu_works_while_it_computes_experts(on_cpu: Any) -> None:
    """One token a pass, one NUMA node: each expert on the host has one row, each layer a start."""
    case, outcome, hardware = on_cpu
    energy = Energy.model_validate(NOTHING | {"cpu": "101 W", "cpu_idle": "1 W", "gpu": "0 W"})
    found = Bill(hardware, energy, None).numbers(case, outcome, 0)
    seconds, hosted = outcome.duration_ns / 1e9, outcome.counts.hosted
    each = int(case.prices.cpu_expert_ns(case.model.moe_layers[0], np.array([1]))[0])
    busy = (int(hosted.sum()) * each + int((hosted > 0).sum()) * case.host_start_ns) / 1e9
    assert 0 < busy < seconds
    assert found["energy_j"]["cpu"] == pytest.approx(seconds + 100 * busy)


@pytest.mark.parametrize("records", ["summary", "step", "layer"])
def test_what_the_cpu_takes_is_that_of_its_layers_whatever_is_recorded(records: str) -> None:
    """Rows of a batch differ from layer to layer, and a price is of the mean of a layer's."""
    batch = {"requests": 8, "batching": {"kind": "static", "batch_size": 8}}
    experts = {"capacity": "8 slots/layer", "miss": {"kind": "cpu"}}
    one = of(WATTS, workload=batch, experts=experts, records=records)
    replay = run({**one, "engine": "replay"}, limit_steps=8).summary
    des = run({**one, "engine": "des", "records": "layer"}, limit_steps=8).summary
    assert replay["energy_j"] == des["energy_j"]


def test_stages_wait_while_another_works() -> None:
    """Two GPUs of 100 W that work in turn are one of 100 W and one of 20 W."""
    hardware = "{gpu: rtx-3060-12gb, host: ddr4-3200-2ch-32gb}"
    energy = NOTHING | {"gpu": "100 W", "gpu_waiting": "20 W", "cpu": "0 W"}
    two = of(energy, hardware=hardware, experts={}, parallelism={"pipeline": 2})
    found = run(two, limit_steps=4).summary
    seconds, share = found["duration_ms"] / 1e3, found["time_share"]
    works = 1 - share["host"] - share["idle"]
    assert found["energy_j"]["gpu"] == pytest.approx(seconds * (100 * works + 20 * (2 - works)))


def test_a_prefetch_that_hides_waits_saves_no_bytes() -> None:
    """What is copied ahead is copied: the link's joules stay, while those of waiting fall."""
    with_all = {"experts": {"capacity": "8 slots/layer"}}
    ahead = {"experts": with_all["experts"] | {"prefetch": {"kind": "oracle"}}}
    plain, hidden = (run(of(WATTS, **one), limit_steps=20).summary for one in (with_all, ahead))
    assert hidden["energy_j"]["link"] >= plain["energy_j"]["link"] * 0.999
    waits = "waiting_for_weights"
    assert hidden["gpu_energy_j"][waits] < plain["gpu_energy_j"][waits]
    assert hidden["duration_ms"] < plain["duration_ms"]


def test_what_has_no_number_is_left_out_by_name() -> None:
    desktop, studio = (
        powers_of(Energy(), load_hardware(name)) for name in (ONE["hardware"], "m2-ultra-192gb")
    )
    assert desktop.gpu is not None
    assert desktop.gpu[0].value == 170
    assert desktop.cpu is None
    assert "write energy.cpu" in desktop.notes()[-1]
    assert (studio.gpu, studio.dram, studio.link) == (None, None, None)
    notes = "; ".join(studio.notes())
    assert notes.count("left out") == 4
    told = run(of({}), limit_steps=1).summary["energy_notes"]
    assert any("dram: 0.102 W/GB of the host's 34.36 GB, 3.49 W" in note for note in told)
    assert any("board draws" in note for note in told)
    assert any("left out: cpu" in note for note in told)


@pytest.mark.parametrize(
    ("hardware", "gpus", "told"),
    [
        (ONE["hardware"], 1, None),
        ("h100-sxm", 1, "dram: those of the whole server, charged to 1 GPU; write"),
        ("dgx-h100", 2, "charged to 2 GPUs of 8"),
        ("dgx-h100", 8, None),
    ],
)
def test_gpus_that_are_charged_a_whole_server_are_told(hardware, gpus, told) -> None:
    """203 W of 2 TB had been one GPU's without a word."""
    asked = of({}, hardware=hardware, parallelism={"expert": gpus}, experts={"capacity": "all"})
    (*others, last) = run(asked, limit_steps=1).summary["energy_notes"]
    assert told in last if told else "server" not in last
    assert not any("server" in note for note in others)


def test_without_the_keys_there_is_nothing_of_it() -> None:
    found = run(ONE, limit_steps=1).summary
    assert not [key for key in found if "energy" in key or "cost" in key or "carbon" in key]
    assert Bill(load_hardware("rtx-4090"), None, None).keys == ()
    assert PriceList().model_dump(exclude_defaults=True) == {}


def test_a_run_that_does_not_fit_has_the_keys() -> None:
    alone = {"hardware": "rtx-4060-8gb", "experts": {}}
    found = run(of({"carbon": "400 g/kWh"}, {"gpu": "1 $/h"}, **alone)).summary
    assert found["status"] == "out_of_memory"
    assert found["total_energy_j"] is found["carbon_g"] is found["cost_usd"] is None


UNIFIED = {"hardware": "m2-ultra-192gb", "experts": {}}


@pytest.mark.parametrize(
    ("energy", "cost", "more", "what"),
    [
        ({"gpu": "350"}, None, {}, "no unit"),
        ({"dram": "26 W/256 GB"}, None, {}, "mean 'W/GB'"),
        ({"embodied": "150 kg"}, None, {}, "energy.life"),
        ({"life": "4 years"}, None, {}, "write energy.embodied too"),
        ({"cpu_idle": "20 W"}, None, {"hardware": "rtx-4060-8gb"}, "write energy.cpu too"),
        ({"storage_idle": "2 W"}, None, {"hardware": "rtx-4060-8gb"}, "write energy.storage too"),
        ({"dram": "0.1 W/GB"}, None, UNIFIED, "not counted on m2-ultra-192gb"),
        ({}, None, UNIFIED, "no power is known of this GPU"),
        (None, {"gpu": "1 $/h", "electricity": "1 $/kWh"}, UNIFIED, "no power is known"),
        (None, {"gpu": "1 $/h", "life": "1 year"}, {}, "write cost.card or cost.host"),
        (None, {}, {}, "names no price"),
        (None, {"card": "300 $"}, {}, "cost.life"),
        (None, {"rents": {"rtx-5090": "1 $/h"}}, {}, "none of 'rtx-3060-12gb'"),
        (None, {"prices": {"rtx-3060-12gb": "1 $"}, "life": "1 year"}, {}, "ddr4-3200-2ch-32gb"),
        (None, {"rents": {"rtx-3060-12gb": "1 $/h"}, "gpu": "1 $/h"}, {}, "one of the two"),
        (None, {"prices": {"rtx-3060-12gb": "1 $"}, "host": "1 $"}, {}, "cost.life"),
        (None, {"card": "300 $", "gpu": "1 $/h", "life": "1 year"}, {}, "one of gpu and card"),
        ({}, None, {"host_layers": 2, "experts": {}}, "host_layers: 0"),
    ],
)
def test_mistakes(energy: Any, cost: Any, more: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        run(of(energy, cost, **more), limit_steps=1)


def test_a_gpu_without_a_number_takes_one_of_its_own() -> None:
    """It drew 0 J a token in a sweep beside others."""
    chip = {"gpu": {"base": "m2-ultra-192gb", "power": "60 W"}}
    found = run(of({}, hardware=chip, experts={}), limit_steps=1).summary
    assert found["energy_j"]["gpu"] > 0
    rented = {"rents": {"m2-ultra-192gb": "1 $/h"}, "electricity": "1 $/kWh"}
    bought = {"prices": {"rtx-4090": "1 $"}, "life": "1 year"}
    assert "rent" in run(of(cost=rented | bought, **UNIFIED), limit_steps=1).summary["cost_usd"]


@pytest.mark.parametrize(
    ("speed", "told"), [(5.0, "joules an output token"), (None, "joules a token")]
)
def test_joules_are_told_by_token(speed: float | None, told: str) -> None:
    of = "output_token" if speed else "token"
    summary = {"output_throughput": speed, "total_energy_j": 9.0, f"joules_per_{of}": 3.0}
    assert energy_rows({**summary, "mean_power_w": 1.0})[0] == (told, "3 J")
