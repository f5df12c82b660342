"""What drives a GPU, with a stand-in for torch: no GPU is needed."""

from types import SimpleNamespace
from typing import Any

import pytest

from moesim.calibrate.collect import cuda
from moesim.calibrate.collect.device import Pool
from moesim.calibrate.collect.ops.copies_cuda import CudaCopies
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.shapes import SMALL


class Tensor:
    def __init__(self, size, place, pinned):
        self.size, self.place, self.pinned, self.copied = size, place, pinned, []

    def numel(self):
        return self.size

    def __getitem__(self, part):
        return Tensor(part.stop, self.place, self.pinned)

    def copy_(self, source, non_blocking):
        LOG.append((source.place, self.place, self.size, non_blocking))


LOG: list[Any] = []


class Event:
    """Each record advances the stream by a microsecond."""

    now_ms = 0.0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        Event.now_ms += 0.001
        self.at = Event.now_ms
        LOG.append("event")

    def elapsed_time(self, end):
        return end.at - self.at


def torch_stub():
    properties = SimpleNamespace(
        name="NVIDIA Made-up", multi_processor_count=20, total_memory=8 * 2**30
    )
    gpu = SimpleNamespace(
        Event=Event,
        device_count=lambda: 2,
        get_device_properties=lambda index: properties,
        synchronize=lambda gpu=0: LOG.append(f"wait {gpu}"),
        _sleep=lambda cycles: LOG.append("sleep"),
    )

    def zeros(size, dtype, device, pin_memory):
        return Tensor(size, device, pin_memory)

    version = SimpleNamespace(cuda="12.8")
    return SimpleNamespace(cuda=gpu, zeros=zeros, uint8="uint8", version=version)


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(cuda, "torch_library", torch_stub)
    LOG.clear()
    return cuda.Cuda()


def test_calls_are_queued_while_the_gpu_sleeps(device):
    times = device.time([lambda: LOG.append("call")] * 2)
    assert ["wait 0", "sleep", *["event", "call", "event"] * 2, "wait 0"] == LOG
    assert times == pytest.approx([1000, 1000])


def test_the_hosts_clock_waits_for_all_gpus(device):
    assert device.wall([lambda: LOG.append("call")])[0] > 0
    assert LOG == ["wait 0", "wait 1", "call", "wait 0", "wait 1"]


def test_an_unknown_cache_is_assumed(device):
    assert device.cache_bytes == cuda.ASSUMED_CACHE_BYTES
    assert isinstance(device.pool, Pool)


def test_buffers_are_kept_and_grow(device):
    small = device.buffer("gpu-1", 100)
    assert (small.place, small.numel()) == ("cuda:1", 100)
    device.buffer("gpu-1", 1000)
    assert device.buffer("gpu-1", 10).numel() == 10
    assert device.buffer("host-0", 10, pinned=True).pinned
    assert not device.buffer("host-0", 10).pinned


def test_each_kind_of_copy_goes_where_it_says(device):
    plan = Plan("cuda", SMALL, ("bf16",), 2, 8, device.cache_bytes, device.memory_bytes)
    points = {
        (c["op"], c["gpus"], c.get("pinned"), c.get("pair")): point
        for point in CudaCopies().points(plan)
        if (c := point.columns)["bytes"] == 1024
    }
    assert len(points) == 8

    def copies(*key):
        LOG.clear()
        points[key].prepare(device).samples(1)
        return [entry for entry in LOG if isinstance(entry, tuple)]

    assert copies("copy_h2d", 1, True, None) == [("cpu", "cuda:0", 1024, True)]
    assert copies("copy_d2h", 1, False, None) == [("cuda:0", "cpu", 1024, False)]
    both = [("cpu", "cuda:0", 1024, True), ("cpu", "cuda:1", 1024, True)]
    assert copies("copy_h2d", 2, True, None) == both
    assert copies("copy_p2p", 2, None, "1-0") == [("cuda:1", "cuda:0", 1024, True)]


def test_facts_name_the_driver_and_the_slot(device, monkeypatch):
    line = "570.1, 1980 MHz, 2619 MHz, 345 MHz, 700.00 W, 5, 16, Enabled\n"
    monkeypatch.setattr(cuda, "_nvidia_smi", lambda: line * 2)
    facts = device.facts()
    assert facts["driver_version"] == "570.1"
    assert facts["power.limit"] == "700.00 W"
    assert facts["pcie_bytes_per_s"] == pytest.approx(63e9, rel=1e-3)
    monkeypatch.setattr(cuda, "_nvidia_smi", lambda: "")
    assert "pcie_bytes_per_s" not in device.facts()
