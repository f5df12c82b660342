"""Every shipped GPU, host and link: it loads, in a machine too, and no number is impossible."""

from __future__ import annotations

import re

import pytest

from moesim.config.strict_yaml.yaml import read_marked_document
from moesim.hardware import load_hardware
from moesim.hardware.choice import text_of
from moesim.hardware.described.host import Host
from moesim.hardware.described.sheets import Gpu, Link
from moesim.hardware.described.sourced import sources_used
from moesim.hardware.layers import load_part, part_file, part_names
from moesim.hardware.load import unified_names

BUS = {  # bits of the memory's bus, Gbit/s of a pin, GiB; HBM by its pins
    "rtx-2080-ti": (352, 14, 11),
    "rtx-3070": (256, 14, 8),
    "rtx-3060-laptop": (192, 14, 6),
    "rtx-3070-laptop": (256, 14, 8),
    "rtx-4060-laptop": (128, 16, 8),
    "rtx-4070-laptop": (128, 16, 8),
    "rtx-4080-laptop": (192, 18, 12),
    "rtx-4090-laptop": (256, 18, 16),
    "rtx-5070-ti-laptop": (192, 28, 12),
    "rtx-5080-laptop": (256, 28, 16),
    "rtx-5090-laptop": (256, 28, 24),
    "p40": (384, 7.2, 24),
    "rtx-3080": (320, 19, 10),
    "rtx-3090": (384, 19.5, 24),
    "rtx-4060-ti-8gb": (128, 18, 8),
    "rtx-4060-ti-16gb": (128, 18, 16),
    "rtx-4070": (192, 21, 12),
    "rtx-4070-ti": (192, 21, 12),
    "rtx-4070-ti-super": (256, 21, 16),
    "rtx-4080": (256, 22.4, 16),
    "rtx-4090d": (384, 21, 24),
    "rtx-5060-ti-8gb": (128, 28, 8),
    "rtx-5060-ti-16gb": (128, 28, 16),
    "rtx-5070": (192, 28, 12),
    "rtx-5070-ti": (256, 28, 16),
    "rtx-5080": (256, 30, 16),
    "t4": (256, 10, 16),
    "rtx-a5000": (384, 16, 24),
    "rtx-a6000": (384, 16, 48),
    "l4": (192, 12.5, 24),
    "a100-sxm-40gb": (5120, 2.43, 40),
    "a100-pcie-40gb": (5120, 2.43, 40),
    "a100-pcie-80gb": (5120, 3.024, 80),
    "h20": (6144, 5.2, 89.4),
    "mi300x": (8192, 5.2, 179),
    "mi355x": (8192, 8, 268),
    "rx-6900-xt": (256, 16, 16),
    "rx-7900-xtx": (384, 20, 24),
    "radeon-ai-pro-r9700": (256, 20, 32),
    "gb10": (256, 8.533, 119),
    "jetson-agx-orin-32gb": (256, 6.4, 29.8),
    "strix-halo-128gb": (256, 8, 119),
    "m2-ultra-192gb": (1024, 6.4, 179),
    "m3-ultra-512gb": (1024, 6.4, 477),
    "m4-max-128gb": (512, 8.533, 119),
    "phone-12gb": (64, 8.533, 12),
    "a10": (384, 12.5, 22.4),
    "a10g": (384, 12.5, 22.4),
    "a40": (384, 14.5, 44.7),
    "arc-b580": (192, 19, 12),
    "gh200": (6144, 5.2, 89.4),
    "h100-nvl": (6144, 5.13, 87.5),
    "h100-pcie": (5120, 3.19, 80),
    "h800-sxm": (5120, 5.23, 80),
    "jetson-agx-orin-64gb": (256, 6.4, 59.6),
    "l40": (384, 18, 44.7),
    "m1-max-64gb": (512, 6.4, 59.6),
    "m1-ultra-128gb": (1024, 6.4, 119.2),
    "m2-max-96gb": (512, 6.4, 89.4),
    "m3-max-128gb": (512, 6.4, 119.2),
    "m4-pro-64gb": (256, 8.533, 59.6),
    "mi325x": (8192, 5.86, 238.4),
    "mi50-32gb": (4096, 2, 29.8),
    "rtx-3060-ti": (256, 14, 8),
    "rtx-3080-ti": (384, 19, 12),
    "rtx-3090-ti": (384, 21, 24),
    "rtx-4070-super": (192, 21, 12),
    "rtx-4080-super": (256, 23, 16),
    "rtx-5000-ada": (256, 18, 32),
    "rtx-6000-ada": (384, 20, 48),
    "rx-7900-xt": (320, 20, 20),
    "rx-9070-xt": (256, 20, 16),
    "rtx-2060": (192, 14, 6),
    "rtx-2060-super": (256, 14, 8),
    "rtx-2070": (256, 14, 8),
    "rtx-2070-super": (256, 14, 8),
    "rtx-2080": (256, 14, 8),
    "rtx-2080-super": (256, 15.5, 8),
    "titan-rtx": (384, 14, 24),
    "quadro-rtx-8000": (384, 14, 48),
    "gtx-1650-super": (128, 12, 4),
    "gtx-1660-super": (192, 14, 6),
    "gtx-1660-ti": (192, 12, 6),
    "gtx-1070": (256, 8, 8),
    "gtx-1080": (256, 10, 8),
    "gtx-1080-ti": (352, 11, 11),
    "rtx-3050": (128, 14, 8),
    "rtx-3070-ti": (256, 19, 8),
    "rtx-3080-12gb": (384, 19, 12),
    "rtx-a2000-12gb": (192, 12, 12),
    "rtx-a4000": (256, 14, 16),
    "rtx-a4500": (320, 16, 20),
    "rtx-a5500": (384, 16, 24),
    "a2": (128, 12.5, 16),
    "rtx-2000-ada": (128, 14, 16),
    "rtx-4000-ada": (160, 18, 20),
    "rtx-4500-ada": (192, 18, 24),
    "rtx-pro-4000": (192, 28, 24),
    "rtx-pro-4500": (256, 28, 32),
    "rtx-pro-5000": (384, 28, 48),
    "rtx-pro-6000-max-q": (512, 28, 96),
    "rx-6700-xt": (192, 16, 12),
    "rx-6800": (256, 16, 16),
    "rx-6800-xt": (256, 16, 16),
    "rx-6950-xt": (256, 18, 16),
    "rx-7600-xt": (128, 18, 16),
    "rx-7700-xt": (192, 18, 12),
    "rx-7800-xt": (256, 19.5, 16),
    "rx-7900-gre": (256, 18, 16),
    "radeon-pro-w7800-32gb": (256, 18, 32),
    "radeon-pro-w7900": (384, 18, 48),
    "rx-9060-xt-16gb": (128, 20, 16),
    "rx-9070": (256, 20, 16),
    "p100-16gb": (4096, 1.43, 16),
    "v100-pcie-16gb": (4096, 1.75, 16),
    "v100-pcie-32gb": (4096, 1.75, 32),
    "v100-sxm2-16gb": (4096, 1.75, 16),
    "a30": (3072, 2.43, 24),
    "l20": (384, 18, 44.7),
    "h200-nvl": (6144, 6.25, 131.3),
    "mi60-32gb": (4096, 2, 32),
    "mi100-32gb": (4096, 2.4, 32),
    "radeon-vii": (4096, 2, 16),
    "mi210": (4096, 3.2, 64),
    "arc-a770-16gb": (256, 17.5, 16),
    "arc-b570": (160, 19, 10),
    "arc-pro-b60": (192, 19, 24),
    "m1-16gb": (128, 4.267, 14.9),
    "m1-pro-32gb": (256, 6.4, 29.8),
    "m2-24gb": (128, 6.4, 22.4),
    "m2-pro-32gb": (256, 6.4, 29.8),
    "m3-24gb": (128, 6.4, 22.4),
    "m3-pro-36gb": (192, 6.4, 33.5),
    "m3-max-36gb": (384, 6.4, 33.5),
    "m4-max-36gb": (384, 8.533, 33.5),
    "m4-32gb": (128, 7.5, 29.8),
}


def _fitted(name: str) -> bool:
    """Whether the host's experts were fitted to a run."""
    path = part_file("host", name)
    assert path is not None
    return "fitted to one run: " in path.read_text()


LANE = {3: 0.984, 4: 1.969, 5: 3.938}  # GB/s


SIZES = [name for name in part_names("gpu") if name not in BUS]


def test_every_gpu_is_in_the_table() -> None:
    assert set(BUS) < set(part_names("gpu"))


@pytest.mark.parametrize("name", SIZES)
def test_another_size_is_its_base_but_for_the_memory(name: str) -> None:
    path = part_file("gpu", name)
    assert path is not None
    document = read_marked_document(path)
    base = str(document.get(("base",)))
    whole, own = load_part("gpu", base), load_part("gpu", name)
    assert isinstance(own, Gpu)
    assert f"{base.rsplit('-', 1)[0]}-{own.memory.value // 10**9}gb" == name
    assert base in BUS
    assert set(document.data) - {"title", "base", "sources", "end_mark"} <= {"memory", "host"}
    assert own.memory.value < whole.memory.value  # type: ignore[union-attr]
    assert own.host is None or own.host.memory == own.memory


@pytest.mark.parametrize("name", sorted(BUS))
def test_a_gpus_bandwidth_is_its_bus_times_its_rate(name: str) -> None:
    gpu = load_part("gpu", name)
    assert isinstance(gpu, Gpu)
    bits, rate, memory = BUS[name]
    assert gpu.memory_bandwidth.value == pytest.approx(bits * rate / 8 * 1e9, rel=0.025)
    assert gpu.memory.value / 2**30 == pytest.approx(memory, abs=0.5)


@pytest.mark.parametrize("name", sorted(BUS))
def test_a_gpus_rates_are_possible(name: str) -> None:
    gpu = load_part("gpu", name)
    assert isinstance(gpu, Gpu)
    rates, rows = gpu.compute, gpu.multiprocessors.value
    assert rates.fp32.value <= rates.fp16.value
    if rates.bf16 is not None:
        times = 2 if name == "mi100-32gb" else 1  # CDNA's first units have half the rate in bf16
        assert rates.fp16.value == pytest.approx(times * rates.bf16.value)
    ridge = rates.fp16.value / gpu.memory_bandwidth.value
    assert 20 < ridge < 500, "operations a byte"
    # operations a clock and multiprocessor, at clocks of 1 to 3 GHz
    assert 64 <= rates.fp32.value / rows / 1e9 <= 2 * 256 * 3
    for narrow, wide in ((rates.fp8, rates.fp16), (rates.fp4, rates.fp8)):
        if narrow is not None and wide is not None:
            assert 1.9 <= narrow.value / wide.value <= 4.1
    assert gpu.l2.value < 0.01 * gpu.memory.value
    assert (gpu.link is None) == (name in unified_names()) == (gpu.host is not None)
    assert not gpu.bridge or gpu.nvlink is not None


@pytest.mark.parametrize("name", part_names("host"))
def test_a_hosts_bandwidth_is_its_channels_times_their_rate(name: str) -> None:
    title, host = _host(name)
    reached = host.expert_bytes_per_second / host.expert_nodes
    words = {"two": 2, "four": 4, "eight": 8, "twelve": 12}
    source = load_hardware(text_of({"gpu": "rtx-3090", "host": name})).sources
    told = source.get(f"{name} dram", "")
    if told:
        channels, rate = _channels(told)
        assert host.memory_bandwidth.value == pytest.approx(channels * rate * 8e6)
        for word, count in words.items():
            assert f"{word} channels" not in title or count == channels
    assert host.numa_nodes.value == (2 if "-2s" in name else 1)
    assert (host.core_rate is not None) == name.endswith("-amx")
    if not _fitted(name):
        assert reached < host.node_bytes_per_second
    assert max(reached, host.node_bytes_per_second) < host.memory_bandwidth.value
    assert 4 <= host.cores.value / host.numa_nodes.value <= 192
    if name.endswith("gb"):
        assert host.memory.value >> 30 == int(name.rsplit("-", 1)[1][:-2])


@pytest.mark.parametrize("name", [name for name in part_names("host") if _fitted(name)])
def test_a_fitted_hosts_name_has_its_channels(name: str) -> None:
    rate, channels = re.search(r"ddr\d-(\d+)-(\d+)ch", name).groups()  # type: ignore[union-attr]
    host = _host(name)[1]
    peak = int(channels) * int(rate) * 8e6
    assert host.memory_bandwidth.value == pytest.approx(peak, rel=0.001)
    assert 0.2 < host.expert_fraction.value < 1  # type: ignore[union-attr]


@pytest.mark.parametrize("name", part_names("link"))
def test_a_links_bandwidth_is_its_lanes_times_their_rate(name: str) -> None:
    link = load_part("link", name)
    assert isinstance(link, Link)
    if link.generation is not None and link.lanes is not None:
        lane = LANE[link.generation.value]
        assert link.pcie.value / 1e9 == pytest.approx(lane * link.lanes.value, rel=0.001)
        assert name == f"pcie{link.generation.value}-x{link.lanes.value}"
    for way in (link.copies.h2d, link.copies.d2h):
        assert 0.7 < way.pinned.bandwidth.value / link.pcie.value < 0.98
        assert way.pageable.bandwidth.value <= way.pinned.bandwidth.value


@pytest.mark.parametrize("name", sorted(BUS))
def test_every_gpu_makes_a_machine_whose_numbers_have_sources(name: str) -> None:
    host = {} if name in unified_names() else {"host": "ddr5-6000-2ch-64gb"}
    machine = load_hardware(text_of({"gpu": name, **host}))
    for path, source in sources_used(machine.datasheet):
        assert len(machine.sources[source]) > 20, path


def _host(name: str) -> tuple[str, Host]:
    path = part_file("host", name)
    assert path is not None
    host = load_part("host", name)
    assert isinstance(host, Host)
    return str(read_marked_document(path).get(("title",))), host


def _channels(told: str) -> tuple[int, int]:
    found = re.search(r"(\d+) channels of DDR\d-(\d+)", told)
    assert found is not None
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("name", part_names("storage"))
def test_every_drive(name: str) -> None:
    """Faults are slower than reads, and a machine takes it beside whatever host it has."""
    drive = load_hardware(f"{{base: rtx-4090, storage: {name}}}").host.storage
    assert drive is not None
    assert 1e8 < drive.bandwidth.value < 3.2e10
    assert drive.mapped_bandwidth is None or drive.mapped_bandwidth.value < drive.bandwidth.value
    least, most = (100, 1_000) if name.startswith("cxl") else (10_000, 1_000_000)
    assert least <= drive.latency.value <= most
