"""Runs whose missing experts a near-memory device computes."""

from __future__ import annotations

from typing import Any

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.config.files.paths import shipped_folder

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
    keys = ("duration_ms", "stall_ms", "bytes_h2d", "time_share")
    assert {key: every[key] for key in keys} == {key: loaded[key] for key in keys}
    free = {"bandwidth": "100 TB/s", "rate": {"bf16": "1000 TFLOP/s"}}
    none, alone = (run({"kind": kind, **NEAR}, free, engine=engine) for kind in ("split", "cpu"))
    assert none["misses_on_cpu"] == alone["misses_on_cpu"] > 0
    assert none["bytes_h2d"] == 0
    assert {key: none[key] for key in keys} == {key: alone[key] for key in keys}


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


def test_load_computes_nothing_beside_the_gpu():
    with pytest.raises(InputError, match="computed_by"):
        run({"kind": "load", **NEAR})
