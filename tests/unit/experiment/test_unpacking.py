"""Experts that software unpacks before their products."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.metrics.priced_time import price_share

SOURCE: dict[str, Any] = {
    "model": {"base": "gpt-oss-20b", "format": "experts=int4"},
    "hardware": "rtx-4090",
    "software": "mixtral-offloading",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1, "phase": "decode"},
}
PASSES = 12


def case_of(**given: Any) -> Case:
    return build(moesim.load_experiment(SOURCE | given).experiment, PASSES).case


def charged(outcome: Outcome, category: str) -> int:
    by_category = outcome.charges.sum(axis=(0, 1)).tolist()
    return int(dict(zip(outcome.categories, by_category, strict=True))[category])


@pytest.mark.parametrize("kernels", ["grouped", "serial"])
@pytest.mark.parametrize("experts", [{}, {"capacity": "8 slots/layer"}])
def test_each_expert_moves_its_bytes_once(kernels: str, experts: dict[str, Any]) -> None:
    """16.5 bytes a weight at the RTX 4090's bandwidth, whole nanoseconds an expert."""
    case = case_of(experts={"kernels": kernels, **experts})
    outcome = run_replay(case)
    layer = case.model.moe_layers[0]
    assert layer.moe is not None
    weights = 3 * layer.moe.expert.hidden_size * layer.moe.expert.intermediate_size
    assert layer.moe.expert.unpacking_bytes == weights * 33 // 2
    sheet = build(moesim.load_experiment(SOURCE).experiment, 1).hardware.datasheet
    rate = sheet.memory_bandwidth.value * sheet.bandwidth_fraction.value
    each = int(weights * 16.5 / rate * 1e9 + 0.5)
    assert charged(outcome, "unpacking") == PASSES * 24 * 4 * each
    by_events = run_des(case, check=True)
    assert np.array_equal(outcome.charges, by_events.charges)
    assert sum(price_share(outcome).values()) == pytest.approx(1)


def test_the_kernels_are_charged_as_without_it() -> None:
    packed = run_replay(case_of())
    wide = run_replay(case_of(model={"base": "gpt-oss-20b", "format": "experts=bf16"}))
    plain = run_replay(case_of(software="hf-eager"))
    assert charged(packed, "experts") == charged(plain, "experts")
    assert "unpacking" not in wide.categories
    assert "unpacking" not in plain.categories


def test_it_is_a_part_of_every_price_of_a_launch() -> None:
    """Also of those that ways to handle misses compare. An expert without rows is not unpacked."""
    packed, plain = case_of().prices, case_of(software="hf-eager").prices
    layers = [
        case_of(software=name).model.moe_layers[0] for name in ("mixtral-offloading", "ideal")
    ]
    rows, starts = np.array([1, 3, 0, 200]), np.array([0, 2])
    each = packed.price("unpacking", layers[0], np.array([1]))[0]
    more = packed.experts_ns(layers[0], rows, starts) - plain.experts_ns(layers[1], rows, starts)
    assert more.tolist() == [2 * each, each]
    assert plain.price("unpacking", layers[1], np.array([4]))[0] == 0


def test_of_variants_those_in_narrow_formats_are_unpacked() -> None:
    """Counted from the launches: a low expert as one that is low in a run of its own format."""
    variants = {
        "high": {"format": "bf16", "capacity": "4 slots/layer"},
        "low": {"format": "int4", "capacity": "6 slots/layer"},
    }
    experts = {"capacity": "8 slots/layer", "variants": variants, "kernels": "serial"}
    mixed = case_of(experts=experts)
    assert mixed.variants is not None
    wide, packed = (layers[0] for layers in mixed.variants.layers)
    one = np.ones(1, np.int64)
    assert mixed.prices.price("unpacking", wide, one)[0] == 0
    each = case_of().prices.price("unpacking", packed, one)[0]
    by_events = run_des(mixed, records="expert")
    low = [
        span for span in by_events.spans if span.category == "experts" and ":low" in span.experts
    ]
    assert 0 < len(low) * each == charged(by_events, "unpacking")
    assert np.array_equal(run_replay(mixed).charges, by_events.charges)
    cut = run_replay(mixed, records="summary", cuts=np.array([0, 5]))
    assert np.array_equal(cut.charges, np.add.reduceat(by_events.charges, [0, 5]))


def test_what_gives_way_is_copied_back() -> None:
    """Behind each copy, as many bytes from the GPU; other software forgets it."""
    case = case_of(experts={"capacity": "8 slots/layer"})
    assert case.software.copies_back
    layer = case.model.moe_layers[0]
    assert layer.moe is not None
    size, _, pinned, copies = case.copy_shape(layer.moe.expert)
    up = case.prices.copy_ns(size, "h2d", pinned, copies)
    down = case.prices.copy_ns(size, "d2h", pinned, copies)
    assert case.expert_copy_ns(layer.moe.expert) == up + down
    forgets = replace(case, software=case.software.model_copy(update={"copies_back": False}))
    outcome, plain = run_replay(case), run_replay(forgets)
    more = charged(outcome, "waiting_for_weights") - charged(plain, "waiting_for_weights")
    assert more == int(outcome.counts.misses.sum()) * down
    assert np.array_equal(outcome.charges, run_des(case, check=True).charges)
