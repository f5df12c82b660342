"""What a run's prices rest on."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import moesim
from moesim.calibrate.published.predict import _rests_on
from moesim.hardware import CostModel, load_hardware
from moesim.hardware.prices.provenance import SOURCES, Source, by_source
from moesim.metrics.price_interval import told_shares
from moesim.model import load_model
from moesim.report.amounts import percent
from moesim.report.run.trust import provenance_line, sweep_trust, trust_lines


def run(hardware, **more):
    experiment = {
        "model": "gpt-oss-20b",
        "hardware": hardware,
        "trace": "traces/quickstart.parquet",
        "workload": {"batching": {"kind": "static", "batch_size": 1}, "requests": 2},
        "experts": {"capacity": "8 slots/layer"},
    }
    experiment |= more
    return moesim.run(experiment).summary


def test_nanoseconds_go_to_their_source():
    prices = np.array([3.0, 5.0, 7.0])
    assert by_source(prices, Source.FITTED).tolist() == [0, 0, 15, 0, 0]
    sources = np.array([Source.MEASURED, Source.OUTSIDE, Source.MEASURED])
    assert by_source(prices, sources).tolist() == [10, 0, 0, 0, 5]


def test_a_datasheet_says_so_and_how_wrong_datasheets_were():
    summary = run("rtx-4060-8gb")
    shares = summary["price_share"]
    assert list(shares) == [*SOURCES, "software"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["datasheet"] + shares["software"] == pytest.approx(1)
    assert "% datasheets and priors" in provenance_line(summary)[0]
    told = trust_lines(summary)
    assert len(told) == 1
    assert "that no fit had seen" in told[0]
    assert f"worst card {summary['price_error']['worst_median_percent']:.2g} %" in told[0]


def test_a_calibrated_cards_experts_rest_on_its_measurements():
    summary = run("h100-sxm")
    shares, time = summary["price_share"], summary["time_share"]
    counted = 1 - time["idle"] - time["waiting_for_gpus"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["measured"] >= 0.99 * time["experts"] / counted
    assert "fitted to" in summary["price_error"]["of"]


def test_sources_of_launches():
    """Even rows at a measured token count, uneven ones, a count between, and one far beyond."""
    model = load_model("qwen3-30b-a3b")
    costs, layer = CostModel(load_hardware("h100-sxm"), model), model.moe_layers[0]
    launches = ([8] * 128, [128] * 8, [7] * 128, [20_000] * 128)
    expected = (Source.MEASURED, Source.INTERPOLATED, Source.INTERPOLATED, Source.OUTSIDE)
    for rows, source in zip(launches, expected, strict=True):
        shape = (layer, np.array(rows), np.array([0]))
        price = costs.experts_ns(*shape)
        provenance = costs.provenance("experts", price, *shape)
        assert provenance[source] == provenance.sum() == price[0], source


def test_what_the_hosts_prior_prices_is_no_datasheets():
    """A run that waits for its CPU had rested on datasheets, with 97 % of its time."""
    summary = run("rtx-3090", software="llama.cpp", experts={"on_cpu": {"layers": 24}})
    told, shares = told_shares(summary), summary["price_share"]
    assert sum(told.values()) == pytest.approx(1)
    cpu, sheet = told["experts on the CPU"], told["datasheet"]
    assert cpu + sheet + told.get("link", 0.0) == pytest.approx(shares["datasheet"])
    assert cpu > 0.9 * summary["time_share"]["waiting_for_cpu"] > 0.4
    (line,) = provenance_line(summary)
    assert line.startswith(f"time rests on prices: {percent(cpu)} experts on the CPU, ")
    assert f"{percent(sheet)} datasheets and priors" in line
    assert _rests_on(told).startswith(f"experts on the CPU {cpu:.0%}, ")
    assert told_shares({"price_share": shares}) == shares


def test_more_than_a_tenth_outside_is_warned_of_once():
    row = {"status": "ok", "price_share.outside": 0.2, "price_error.of": "mine"}
    lines = sweep_trust(pd.DataFrame([row, row]))
    assert sum(line.startswith("warning") for line in lines) == 1
    calm = sweep_trust(pd.DataFrame([row | {"price_share.outside": 0.1}]))
    assert not any(line.startswith("warning") for line in calm)


def test_of_many_notes_that_differ_in_numbers_alone_the_first_is_told():
    notes = [f"experts of host 'ddr{n % 2}' take {n}.5 of its 64.0 GiB" for n in range(10)]
    rows = [{"status": "ok", "host_notes": json.dumps([note])} for note in notes]
    assert sweep_trust(pd.DataFrame(rows)) == [
        f"note: host: {note} (and 4 more notes with other numbers)" for note in notes[:2]
    ]
    assert sweep_trust(pd.DataFrame(rows[:6])) == [
        f"note: host: {note}" for note in (*notes[0:6:2], *notes[1:6:2])
    ]


def test_no_launch_is_read_faster_than_the_memory_allows():
    """The b200 table's launch of 32 tokens over these 256 experts touched fewer of them."""
    model, card = load_model("deepseek-v3"), load_hardware("b200-sxm")
    layer = model.moe_layers[0]
    assert layer.moe is not None
    rows = np.ones(256, np.int64)
    price = CostModel(card, model).experts_ns(layer, rows, np.array([0]))[0]
    beyond = 256 * layer.moe.expert.bytes - card.datasheet.l2.value
    starts = 2 * card.datasheet.kernel_start.value  # priced as reorderings
    assert price + starts >= beyond * 1e9 / card.datasheet.memory_bandwidth.value - 1
