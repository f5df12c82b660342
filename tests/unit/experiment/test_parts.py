"""Experts of several parts, from an experiment to its result."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import run
from moesim.memory.footprint.footprint import expert_bytes
from moesim.model import load_model

BASE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4090",
    "trace": "traces/quickstart.parquet",
    "workload": {"batching": {"kind": "static", "batch_size": 2}, "requests": 2},
    "records": "summary",
}


def numbers(engine: str = "auto", **experts: Any) -> dict[str, Any]:
    given = {"capacity": "12 slots/layer", **experts}
    return run({**BASE, "engine": engine, "experts": given}, limit_steps=30).summary


DECISIONS = ("hits", "misses", "steps")
SAME = (*DECISIONS, "duration_ms", "bytes_h2d", "time_share", "peak_memory_bytes")


def test_one_part_of_all_is_the_expert_to_the_nanosecond() -> None:
    whole, one = numbers(), numbers(parts={"all": {}})
    assert {key: one[key] for key in SAME} == {key: whole[key] for key in SAME}


def test_halves_change_kernels_alone() -> None:
    whole, halves = numbers(), numbers(parts={"a": {"rows": "50 %"}, "b": {}})
    for key in (*DECISIONS, "bytes_h2d", "peak_memory_bytes", "host_memory_bytes"):
        assert halves[key] == whole[key], key
    assert halves["duration_ms"] > whole["duration_ms"]


def test_bytes_go_by_the_neurons_that_are_used() -> None:
    whole, few = numbers(), numbers(parts={"hot": {"rows": "25 %"}})
    assert few["bytes_h2d"] * 4 == whole["bytes_h2d"]
    assert few["host_memory_bytes"] * 4 == whole["host_memory_bytes"]
    assert few["model_notes"] == ["75 % of each expert's neurons are in none of its parts"]


@pytest.mark.parametrize("engine", ["des", "replay"])
def test_what_stays_on_the_gpu_is_neither_copied_nor_kept_by_the_host(engine: str) -> None:
    """The same misses, of as much less; the GPU holds that of all experts, but not in slots."""
    whole = numbers()
    some = numbers(engine, parts={"hot": {"rows": "25 %", "resident": "100 %"}, "rest": {}})
    for key in DECISIONS:
        assert some[key] == whole[key]
    assert some["bytes_h2d"] * 4 == whole["bytes_h2d"] * 3
    assert some["host_memory_bytes"] * 4 == whole["host_memory_bytes"] * 3
    (size,) = set(expert_bytes(load_model("gpt-oss-20b")))
    kept = 24 * (32 - 12) * size // 4
    assert some["peak_memory_bytes"] - whole["peak_memory_bytes"] == kept


@pytest.mark.parametrize("engine", ["des", "replay"])
def test_what_the_next_token_uses_again_the_host_has_too(engine: str) -> None:
    """A GPU's bytes and copies are as if it were resident; the host and the drive hold all."""
    whole = numbers()
    again, kept = (numbers(engine, parts={"all": {name: "75 %"}}) for name in ("reuse", "resident"))
    for key in ("duration_ms", "bytes_h2d", "peak_memory_bytes"):
        assert again[key] == kept[key]
    assert again["bytes_h2d"] * 4 == whole["bytes_h2d"]
    assert again["host_memory_bytes"] == whole["host_memory_bytes"] == 4 * kept["host_memory_bytes"]
    drive = {**BASE, "hardware": {"base": "rtx-4090", "storage": "nvme-pcie4"}, "engine": engine}

    def read(**parts: Any) -> dict[str, Any]:
        room = {"capacity": "12 slots/layer", "host": {"capacity": "50 %"}, **parts}
        return run({**drive, "experts": room}, limit_steps=30).summary

    plain, reusing = read(), read(parts={"all": {"reuse": "75 %"}})
    assert reusing["bytes_storage"] == plain["bytes_storage"] > 0
    assert reusing["bytes_h2d"] * 4 == plain["bytes_h2d"]
    assert reusing["host_memory_bytes"] == plain["host_memory_bytes"]


def test_engines_agree_on_parts_of_any_kind() -> None:
    parts = {"hot": {"rows": "20 %", "resident": "50 %"}, "low": {"format": "int4", "rows": "30 %"},
             "rest": {"rank": 64}}  # fmt: skip
    des, replay = numbers("des", parts=parts), numbers("replay", parts=parts)
    for key in (*SAME, "stall_ms"):
        assert des[key] == replay[key], key


def test_slots_of_auto_are_beside_what_stays() -> None:
    """As many as fit: a slot a layer more would not."""
    parts = {"a": {"rows": "25 %", "resident": "100 %"}, "b": {}}
    machine = {"gpu": "rtx-4060-8gb", "host": "ddr5-5600-2ch-64gb"}
    given = {**BASE, "hardware": machine, "experts": {"capacity": "auto", "parts": parts}}
    built = build(load_experiment(given).experiment, limit_steps=2)
    assert built.out_of_memory is None
    peak, layer = int(built.footprint.total.max()), sum(expert_bytes(built.case.model))
    assert peak <= built.limit_bytes < peak + layer


@pytest.mark.parametrize(
    ("experts", "said"),
    [
        ({"parts": {}}, "names no part"),
        ({"parts": {"a": {"rows": "60 %"}, "b": {"rows": "50 %"}}}, "more than 100 % together"),
        ({"parts": {"a": {}, "b": {}}}, "only one part has the rest"),
        ({"parts": {"a": {"rows": "100 %"}, "b": {}}}, "leave no rows"),
        ({"parts": {"a": {"resident": "100 %"}}}, "nothing is left for slots"),
        ({"parts": {"a": {"resident": "60 %", "reuse": "50 %"}}}, "more than 100 % together"),
        ({"parts": {"a": {"rank": 1440}}}, "1440 saves nothing of 2880 neurons"),
        ({"parts": {"a": {"format": "int5"}}}, "no format of one class"),
        ({"parts": {"a": {"group": 32}}}, "is of a format; write experts.parts.a.format"),
        ({"parts": {"a": {}}, "miss": {"kind": "cpu"}}, "with misses that load or skip alone"),
    ],
)
def test_what_is_wrong_is_one_line(experts: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        load_experiment({**BASE, "experts": {"capacity": "8 slots/layer", **experts}})
    assert len(error.value.problems) == 1


def test_a_variant_may_have_some_of_the_neurons() -> None:
    """All that is low has a quarter of them: a quarter of the bytes of each miss."""
    slots = {"capacity": "6 slots/layer"}
    common: dict[str, Any] = {"choose": {"kind": "hot_cold", "high": "0 %", "low": "100 %"}}
    whole = numbers(variants={"high": slots, "low": slots}, **common)
    quarter = numbers(variants={"high": slots, "low": {**slots, "rows": "25 %"}}, **common)
    assert whole["misses"] == quarter["misses"] == quarter["misses_low"] > 0
    assert quarter["bytes_h2d"] * 4 == whole["bytes_h2d"]
