"""Which links copies cross, and which are shared."""

from __future__ import annotations

import pytest

from moesim.config.errors import InputError
from moesim.hardware import load_hardware
from moesim.hardware.bounds import breaches


def test_plain_profiles_share_nothing() -> None:
    for name in ("h100-sxm", "v100-sxm2-32gb", "rtx-4090"):
        profile = load_hardware(name)
        assert profile.gpus == 8
        assert profile.links(8).shared("both") == frozenset()
        assert profile.links([3]).h2d == {3: ("gpu 3 h2d",)}


def test_one_link_carries_the_whole_copy() -> None:
    profile = load_hardware("v100-sxm2-32gb")
    links = profile.links(2)
    assert links.capacity["gpu 1 h2d"] == 12_000_000_000
    assert profile.links(1, pinned=False).rate(0, "h2d") == 3_750_000_000


def test_pairs_share_a_switch_on_a_dgx() -> None:
    profile = load_hardware("dgx-h100")
    links = profile.links(8)
    assert links.h2d[5] == ("gpu 5 h2d", "switch 2 h2d", "numa 1 memory")
    assert links.d2h[5] == ("gpu 5 d2h", "switch 2 d2h", "numa 1 memory")
    assert links.rate(5, "h2d") == 55_630_000_000


@pytest.mark.parametrize(
    ("gpus", "shared"),
    [
        ([0], set()),
        ([0, 2], set()),
        ([0, 1], {"switch 0 h2d"}),
        ([1, 4, 5], {"switch 2 h2d"}),
        (range(8), {f"switch {s} h2d" for s in range(4)}),
    ],
)
def test_shared_where_peaks_exceed_the_capacity(gpus: list[int], shared: set[str]) -> None:
    assert load_hardware("dgx-h100").links(gpus).shared("h2d") == shared


def test_host_memory_is_shared_where_it_is_slow() -> None:
    profile = load_hardware("dgx-1-v100")
    # 54.64 GB/s of a node's memory: 4 GPUs read 48 GB/s, and both ways 96
    assert "numa 0 memory" not in profile.links(8).shared("h2d")
    assert "numa 0 memory" in profile.links(8).shared("both")
    slow = profile.host.memory_bandwidth.model_copy(update={"value": 40e9})
    host = profile.host.model_copy(update={"memory_bandwidth": slow})
    slower = profile.model_copy(update={"host": host})
    assert {"numa 0 memory", "numa 1 memory"} <= slower.links(8).shared("h2d")
    assert "numa 0 memory" not in slower.links([0, 2, 4]).shared("h2d")


def test_pageable_copies_may_share_nothing() -> None:
    profile = load_hardware("dgx-1-v100")
    assert profile.links(8, pinned=False).shared("h2d") == frozenset()


def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(InputError, match="GPU 8 is not one of the node's 8 GPUs"):
        load_hardware("dgx-h100").links([0, 8])


def test_wiring_that_cannot_be() -> None:
    profile = load_hardware("dgx-h100")
    assert profile.topology is not None
    wired = {"numa": ((0, 1), (1, 2))}
    broken = profile.model_copy(update={"topology": profile.topology.model_copy(update=wired)})
    whats = [what for _, what in breaches(broken)]
    assert any("each of 0 to 3 must stand there once" in what for what in whats)
    assert any("GPU 4, which is in no NUMA node" in what for what in whats)
