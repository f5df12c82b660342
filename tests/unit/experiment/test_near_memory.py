"""Runs whose missing experts a near-memory device computes."""

from __future__ import annotations

from typing import Any

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.config.files.paths import shipped_folder

KEYS = ("duration_ms", "stall_ms", "bytes_h2d", "time_share")
NEAR = {"computed_by": "near_memory"}
BASE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": {"base": "rtx-4090", "near_memory": "monde"},
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 2},
    "experts": {"capacity": "2 slots/layer", "policy": {"kind": "lru"}},
}


def run(miss=None, device=None, limit_steps=40, **more):
    experts = BASE["experts"] | ({"miss": miss} if miss else {}) | more.pop("experts", {})
    hardware = BASE["hardware"] | ({"near_memory": {"base": "monde", **device}} if device else {})
    choices = {**BASE, "hardware": hardware, "experts": experts, **more}
    return moesim.run(choices, limit_steps=limit_steps).summary


@pytest.mark.parametrize("engine", ["des", "replay"])
def test_all_copied_is_load_and_none_is_the_device(engine):
    """To the nanosecond: with the largest alpha all are copied, and to a device without a price
    none.
    """
    every = run({"kind": "split", "rule": "bandwidth", "alpha": 1000, **NEAR}, engine=engine)
    loaded = run({"kind": "load"}, engine=engine)
    assert {key: every[key] for key in KEYS} == {key: loaded[key] for key in KEYS}
    free = {"bandwidth": "100 TB/s", "rate": {"bf16": "1000 TFLOP/s"}}
    none, alone = (run({"kind": kind, **NEAR}, free, engine=engine) for kind in ("split", "cpu"))
    assert none["misses_on_cpu"] == alone["misses_on_cpu"] > 0
    assert none["bytes_h2d"] == 0
    assert {key: none[key] for key in KEYS} == {key: alone[key] for key in KEYS}


def test_the_device_is_no_host():
    """Another price than the host's, no experts in host memory, and a line that says so."""
    host, near = run({"kind": "cpu"}), run({"kind": "cpu", **NEAR})
    assert near["misses_on_cpu"] == host["misses_on_cpu"] > 0
    assert near["duration_ms"] < host["duration_ms"]
    assert near["host_memory_bytes"] == 0 < host["host_memory_bytes"]
    (note,) = near["host_notes"]
    assert "a near-memory device holds" in note


def test_cheapest_is_the_split_of_that_name():
    split = run({"kind": "split", "rule": "cheapest", **NEAR})
    assert split["duration_ms"] == run({"kind": "cheapest", **NEAR})["duration_ms"]


@pytest.fixture(scope="module")
def example():
    """The shipped example, as one batch of sentences."""

    def ms(miss, phase="encode", rate="512 GB/s", sentences=4):
        choices = [f"experts.miss={miss}", f"workload.phase={phase}"]
        choices += [f"workload.requests={sentences}", f"workload.batching.batch_size={sentences}"]
        device = f"hardware.near_memory={{base: monde, bandwidth: {rate}}}"
        path = shipped_folder() / "experiments" / "near_memory.yaml"
        summary = moesim.run(path, overrides=[*choices, device]).summary
        return summary["cpu_wait_ms"], summary["duration_ms"]

    return ms


def test_the_least_makespan_is_no_worse_than_any(example):
    """In the encoder, where some experts have many rows, it is better."""
    ways = ("load", "cpu", "split, rule: bandwidth")
    for phase in ("encode", "decode"):
        others = [
            example(f"{{kind: {way}{', computed_by: near_memory' * (way != 'load')}}}", phase)[1]
            for way in ways
        ]
        (_, least) = example("{kind: split, computed_by: near_memory}", phase)
        assert least <= min(others)
        assert (least < min(others)) == (phase == "encode")


def test_twice_the_bandwidth_helps_decode_and_no_large_batch_in_the_encoder(example):
    """A few rows are read for; many are computed."""
    waits = {
        phase: [
            example("{kind: cpu, computed_by: near_memory}", phase, rate, sentences)[0]
            for rate in ("512 GB/s", "1024 GB/s")
        ]
        for phase, sentences in (("encode", 192), ("decode", 4))
    }
    once, twice = waits["decode"]
    assert twice < 0.75 * once
    once, twice = waits["encode"]
    assert 0.95 * once < twice <= once


def test_a_device_that_is_too_small():
    summary = run({"kind": "cpu", **NEAR}, {"memory": "1 MB"})
    assert summary["status"] == "out_of_memory"
    assert "bytes of experts do not fit in its 1,000,000" in summary["reason"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"hardware": "rtx-4090"}, "by a device that the machine has"),
        ({"parallelism": {"expert": 2}}, "for one GPU alone"),
        ({"energy": {}}, "without energy"),
        ({"experts": {"on_cpu": {"layers": 3}}}, "in every layer"),
    ],
)
def test_what_does_not_go_together_yet(more, words):
    with pytest.raises(InputError, match=words):
        run({"kind": "cpu", **NEAR}, **more)


UPMEM: dict[str, Any] = {
    "model": "olmoe-1b-7b@int8",
    "trace": "stand-in:quickstart",
    "hardware": {"base": "rtx-4090", "near_memory": "upmem-2560"},
    "workload": {"requests": 1, "phase": "decode"},
    "limit_steps": 4,
}


@pytest.mark.parametrize("engine", ["des", "replay"])
def test_experts_on_all_units_are_experts_on_the_device(engine):
    """To the nanosecond; on a half of them two run at a time, on more than a half one does."""
    more = {**UPMEM, "engine": engine}
    whole, same, most, half = (
        run({"kind": "cpu", **NEAR, **on}, **more)
        for on in ({}, *({"units_per_expert": units} for units in (2560, 1281, 1280)))
    )
    assert {key: same[key] for key in KEYS} == {key: whole[key] for key in KEYS}
    few = {**more, "hardware": {"base": "rtx-4090", "near_memory": {"base": "upmem-2560"}}}
    few["hardware"]["near_memory"]["units"] = 1281
    assert most["duration_ms"] == run({"kind": "cpu", **NEAR}, **few)["duration_ms"]
    assert half["cpu_wait_ms"] < 0.9 * most["cpu_wait_ms"]


def test_an_expert_has_to_fit_on_its_units():
    """All 6.4 GB fit on 2,560 units of 64 MiB, 1,024 experts on 1,024 of them; on units of 5 MB
    none does.
    """
    one = {"kind": "cpu", **NEAR, "units_per_expert": 1}
    assert run(one, **UPMEM)["status"] == "ok"
    small = {"base": "upmem-2560", "unit_memory": "5 MB"}
    summary = run(one, **UPMEM | {"hardware": {"base": "rtx-4090", "near_memory": small}})
    assert summary["status"] == "out_of_memory"
    assert "stripes on its fullest unit, 6,389,760 bytes, exceed the 5,000,000" in summary["reason"]


@pytest.mark.parametrize(
    ("miss", "words"),
    [
        ({"kind": "cpu", **NEAR, "units_per_expert": 2561}, "are 2,560 at most"),
        ({"kind": "split", **NEAR, "units_per_expert": 64}, "go with kind: cpu alone"),
        ({"kind": "cheapest", **NEAR, "units_per_expert": 64}, "go with kind: cpu alone"),
        ({"kind": "cpu", "units_per_expert": 64}, "write computed_by: near_memory"),
        ({"kind": "cpu", **NEAR, "units_per_expert": 0}, "units_per_expert"),
    ],
)
def test_units_of_an_expert_that_do_not_go(miss, words):
    with pytest.raises(InputError, match=words):
        run(miss, **UPMEM)


def test_load_computes_nothing_beside_the_gpu():
    with pytest.raises(InputError, match="computed_by"):
        run({"kind": "load", **NEAR})
