"""llama.cpp on Apple's GPUs: what its Metal backend launches, and how its attention reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.engine.pricing.host_times import host_times
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.hardware import CostModel, load_hardware
from moesim.hardware.load import as_run_by, load_software
from moesim.model import load_model
from moesim.sweep.advise.profiles import write_software
from moesim.sweep.advise.upgrades import UPGRADES

KEYS = 1_000_000
"""So many that the start of a kernel is nothing beside reading them."""
MAC, CACHES = "m2-ultra-192gb", 24.2 * 76 * 27.2e12 / (2 * 128 * 76)
"""A machine with Metal, and the bytes a second that its 76 cores read from caches."""


def scores_ns(card: str, model: str, queries: int = 1, software: str = "llama.cpp@b8xxx") -> float:
    """Of a request of so many queries over ``KEYS`` keys each."""
    spec = load_model(model)
    operation = CostModel(as_run_by(card, software), spec).operations["attention"]
    block = spec.layers[-1].attention
    tokens, attended = np.array([queries]), np.array([queries * KEYS])
    parts = operation.scores(block, operation.cache(block), tokens, attended, np.array([KEYS]))
    return float(sum(part.time_ns for part in parts)[0])


@pytest.mark.parametrize(
    ("software", "layer"),
    [
        ("llama.cpp", 9 + 3 + 3 + 2),
        ("llama.cpp@b8xxx", 9 + 4 + 3 + 4),
        ("llama.cpp@b6xxx", 13 + 7 + 4 + 3),
        ("llama.cpp@b5xxx", 16 + 8 + 5 + 9),
    ],
)
def test_a_mac_launches_what_is_counted_in_metal(software: str, layer: int) -> None:
    """A layer of Qwen3-MoE; other makers' cards have what is counted under CUDA."""
    for card, expected in ((MAC, layer), ("gb10", None), ("strix-halo-128gb", None)):
        told = as_run_by(card, software).small_kernels
        assert told is not None
        counts = told.counts
        found = counts.attention + counts.gate + counts.grouped + counts.combine
        cuda = load_software(software).kernels
        own = cuda.attention + cuda.gate + cuda.grouped + cuda.combine
        assert found == (expected or own)


def test_a_mac_waits_for_no_chosen_experts_and_its_launches_are_ahead() -> None:
    """By hand: 3 us for each of 9 + 4 + 3 + 4 kernels of a layer; llama.cpp waits four times where
    it copies experts, and with one memory it copies none.
    """
    data: dict[str, Any] = {"name": "mac", "model": "qwen3-30b-a3b", "software": "llama.cpp@b8xxx"}
    data |= {"trace": "stand-in:qwen3-30b-a3b", "workload": {"phase": "decode"}}
    ways = {}
    for card, execution in ((MAC, "eager"), (MAC, "graph"), ("rtx-4090", "eager")):
        asked = data | {"hardware": card, "execution": execution}
        if card != MAC:
            asked["experts"] = {"capacity": "8 slots/layer"}
        case = build(load_experiment(asked).experiment, 1).case
        ways[card, execution] = host_times(case), run_replay(case).ends.tolist()
    for one in ways[MAC, "eager"][0]:
        assert one.attention + one.gate + one.experts + one.combine == (9 + 4 + 3 + 4) * 3000
        assert one.waits == 0
    assert ways[MAC, "eager"][1] == ways[MAC, "graph"][1]
    assert {one.waits for one in ways["rtx-4090", "eager"][0]} == {4}


def test_biases_are_kernels_of_their_own_in_metal() -> None:
    """gpt-oss has some in projections and experts, Qwen3 has none."""
    counts = load_software("llama.cpp@b8xxx").on_card(load_hardware(MAC).datasheet).kernels
    for model, expected in (("gpt-oss-20b", 12), ("qwen3-30b-a3b", 9), ("glm-4.7-flash", 16)):
        assert counts.of_layer(load_model(model).layers[-1]).attention == expected


@pytest.mark.parametrize(
    ("model", "values"),
    [("qwen3-30b-a3b@q8_0", 32 * 256), ("gpt-oss-120b@mxfp4_moe", 64 * 128),
     ("glm-4.7-flash@q8_0", 20 * 2 * 576)],
)  # fmt: skip
def test_each_head_of_a_query_reads_keys_and_values_from_the_caches(
    model: str, values: int
) -> None:
    """By hand: so many values of 16 bits a key, whatever heads share them."""
    alone = values * 2 * KEYS / CACHES * 1e9
    assert scores_ns(MAC, model) == pytest.approx(alone, rel=2e-3)
    assert scores_ns(MAC, model, 19) == pytest.approx(19 * alone, rel=2e-3)


def test_eight_queries_of_a_head_read_them_once_where_there_are_many() -> None:
    alone = scores_ns(MAC, "qwen3-30b-a3b@q8_0")
    assert scores_ns(MAC, "qwen3-30b-a3b@q8_0", 20) == pytest.approx(3 * alone, rel=2e-3)
    assert scores_ns(MAC, "qwen3-30b-a3b@q8_0", 24) == pytest.approx(3 * alone, rel=2e-3)


def test_a_packed_cache_is_read_packed_until_the_software_unpacks_it() -> None:
    """From 32 queries on, in builds since autumn 2026 alone; those before take as long as their
    products then, 84 % of the peak, since reading takes less.
    """
    name, packed = "qwen3-30b-a3b@q8_0", "qwen3-30b-a3b@q8_0,kv_cache=q8_0"
    products = 32 * KEYS * 32 * 256 * 2 / (0.84 * 27.2e12) * 1e9
    alone, many = (scores_ns(MAC, name, queries) for queries in (1, 32))
    for software, expected in (("llama.cpp@b8xxx", products), ("llama.cpp", many)):
        assert scores_ns(MAC, packed, 1, software) == pytest.approx(alone * 34 / 64, rel=2e-3)
        assert scores_ns(MAC, packed, 32, software) == pytest.approx(expected, rel=2e-3)


def test_without_head_reads_a_cache_is_read_once() -> None:
    """Four heads of keys and values, at the bandwidth of weights."""
    once = 4 * 256 * 2 * KEYS / (0.586 * 800e9) * 1e9
    assert scores_ns(MAC, "qwen3-30b-a3b@q8_0", software="ideal") == pytest.approx(once, rel=2e-3)


def test_no_software_cost_keeps_what_metal_launches(tmp_path: Path) -> None:
    data = {"model": "qwen3-30b-a3b", "hardware": MAC, "software": "llama.cpp@b8xxx"}
    base = load_experiment({"name": "mac", **data}).experiment
    after = load_software(write_software(tmp_path, base, UPGRADES["no_software"]))
    assert (after.head_reads, after.cache_bandwidth, after.kernels.attention) == (24.2, 1.0, 9)


def test_a_profile_changes_one_number_of_a_backend(tmp_path: Path) -> None:
    text = """title: mine
base: llama.cpp
sources: {mine: "measured here"}
backends: {metal: {head_reads: {value: 30, source: mine}}}
"""
    (path := tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    mine = load_software(str(path)).on_card(load_hardware(MAC).datasheet)
    other = load_software("llama.cpp").on_card(load_hardware(MAC).datasheet)
    assert mine.head_reads == 30
    assert mine.kernels == other.kernels
    path.write_text(text.replace("metal", "vulkan"), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape("metal")):
        load_software(str(path))
