"""Machines put together from a GPU, a host and a link, and single numbers given inline."""

from __future__ import annotations

from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.hardware import HardwareProfile, gpu_names, hardware_file, load_hardware
from moesim.hardware.choice import text_of
from moesim.hardware.described.links import DIRECTIONS
from moesim.hardware.layers import GIVEN

HOST = "ddr4-3200-2ch-64gb"


def machine(**parts: object) -> HardwareProfile:
    return load_hardware(text_of(parts))


def wrong(**parts: object) -> list[str]:
    with pytest.raises(InputError) as caught:
        machine(**parts)
    return [str(problem) for problem in caught.value.problems]


def test_a_gpu_a_host_and_a_link() -> None:
    mine = machine(gpu="rtx-3090", host=HOST, link="pcie4-x8")
    sheet = mine.datasheet
    assert mine.name == f"rtx-3090 + {HOST} + pcie4-x8"
    assert (mine.memory_bytes, sheet.memory_bandwidth.value) == (24 << 30, 936e9)
    assert mine.host.memory_bandwidth.value == 51.2e9
    assert sheet.pcie.value == 15.75e9
    assert sheet.copy_of("h2d").bytes_per_second == sheet.peers.bandwidth.value == 13.1e9
    assert sheet.peers.kind == "pcie"
    assert mine.calibrated is None
    used = {sheet.memory.source, mine.host.cores.source, sheet.pcie.source}
    assert used <= set(mine.sources)
    assert len(used) == 3


def test_without_a_link_a_gpu_has_its_widest() -> None:
    assert machine(gpu="rtx-3090", host=HOST).datasheet.pcie.value == 31.5e9
    assert machine(gpu="rtx-5060-ti-16gb", host=HOST).datasheet.pcie.value == 31.5e9


def test_the_gpu_of_a_whole_profile_keeps_its_fits_but_not_the_parts_replaced() -> None:
    whole = load_hardware("h100-sxm")
    mine = machine(gpu="h100-sxm", host=HOST)
    assert mine.datasheet == whole.datasheet
    assert mine.calibrated == whole.calibrated
    assert (mine.topology, mine.network) == (None, None)
    quadro = machine(gpu="quadro-rtx-6000", host=HOST, link="pcie3-x8")
    assert load_hardware("quadro-rtx-6000").calibrated.copies  # type: ignore[union-attr]
    assert quadro.calibrated.copies == ()  # type: ignore[union-attr]
    assert quadro.links(1).rate(0, "h2d") == 5_950_000_000


def test_single_numbers_over_a_whole_machine() -> None:
    whole, given = load_hardware("rtx-4090"), {"cores": 24, "memory": "96 GiB"}
    mine = machine(base="rtx-4090", host={**given, "memory_bandwidth": "83 GB/s"})
    assert (mine.host.cores.value, mine.host.cores.source) == (24, GIVEN)
    assert mine.host_memory_bytes == 96 << 30
    assert mine.host.memory_bandwidth.value == 83e9
    assert mine.host.memory_fraction == whole.host.memory_fraction.model_copy(
        update={"source": f"rtx-4090 {whole.host.memory_fraction.source}"}
    )
    assert mine.datasheet == whole.datasheet
    assert GIVEN in mine.sources


def test_a_number_with_its_own_source() -> None:
    cores = {"value": 24, "source": "lscpu of my machine"}
    mine = machine(gpu="rtx-3090", host={"base": HOST, "cores": cores})
    assert mine.host.cores.source == "lscpu of my machine" == mine.sources["lscpu of my machine"]
    fp16 = {"compute": {"fp16": "70 TFLOP/s"}}
    mine = machine(gpu={"base": "rtx-3090", **fp16}, host=HOST)
    assert mine.peak("fp16") == 70e12
    assert mine.datasheet.compute.fp32.value == 35.6e12


def test_a_changed_kernel_number_drops_the_fits_and_more_memory_does_not() -> None:
    assert machine(base="h100-sxm", gpu={"memory": "96 GiB"}).calibrated is not None
    assert machine(base="h100-sxm", gpu={"memory_bandwidth": "4 TB/s"}).calibrated is None
    assert machine(base="dgx-h100", host={"memory": "1 TB"}).topology is not None


def test_nvlink_where_there_is_a_bridge() -> None:
    pair = machine(gpu="rtx-3090", host=HOST, peers="nvlink").datasheet.peers
    assert (pair.kind, pair.bandwidth.value) == ("nvlink", 56.25e9)
    assert machine(gpu="h20", host="xeon-4th-2s").datasheet.peers.kind == "nvlink"
    assert machine(gpu="h20", host="xeon-4th-2s", peers="pcie").datasheet.peers.kind == "pcie"
    for card in ("rtx-4090", "rtx-4080"):
        what = f"peers: '{card}' has no NVLink; write pcie, or a GPU that has it"
        assert wrong(gpu=card, host=HOST, peers="nvlink") == [what]
    assert wrong(gpu="h100-sxm", host=HOST, peers="pcie") == [
        "peers: 'h100-sxm' is joined by NVLink on its board; leave 'peers' out"
    ]


@pytest.mark.parametrize(
    ("card", "link"),
    [("rtx-3090", "pcie5-x16"), ("rtx-4060-ti-8gb", "pcie4-x16"), ("rtx-3090", "pcie5-x4"),
     ("gb200", "pcie5-x16"), ("rtx-4090", "pcie5-x16"), ("mi300x", "nvlink-c2c")],
)  # fmt: skip
def test_a_link_that_a_gpu_does_not_take(card: str, link: str) -> None:
    (what,) = wrong(gpu=card, host=HOST, link=link)
    assert what.startswith(f"link: '{card}' does not take '{link}': its link is ")


def test_wrong_names_and_numbers_each_at_their_place() -> None:
    (what,) = wrong(gpu="rtx-390", host=HOST)
    assert what.startswith("gpu: 'rtx-390' is neither a known gpu nor the path of its file; ")
    assert "rtx-3090" in what
    assert len(what) < 200
    (what,) = wrong(gpu="rtx-3090", host="ddr4-3200-2ch")
    assert f"any of ddr4-3200-2ch-128gb, ddr4-3200-2ch-32gb, {HOST}; write" in what
    assert wrong(gpu="rtx-3090", host=HOST, link="nvlink") == [
        "link: 'nvlink' joins GPUs, not a GPU and its host; write peers: nvlink"
    ]
    numbers = wrong(base="rtx-4090", host={"cores": 2.5, "memory": 96, "speed": 3})
    assert numbers[0].startswith("host.memory: 96 has no unit")
    assert numbers[1].startswith("host.cores: 2.5 is a number; a whole number")
    assert numbers[2].startswith("host.speed: is not a known key; allowed: core_clock, core_rate")
    several = wrong(gpu="rtx-390", host={"base": HOST, "cores": 0}, link="pcie9")
    assert [what.partition(":")[0] for what in several] == ["gpu", "host.cores", "link"]
    allowed = "base, gpu, host, link, near_memory, peers, storage"
    assert wrong(gpus="rtx-3090") == [
        f"gpus: is not a known key; allowed: {allowed}; did you mean 'gpu'?"
    ]
    assert wrong(gpu=["rtx-3090", "rtx-4090"])[0].startswith(
        "gpu: a list: all GPUs of a run are of one kind, so that one name,"
    )
    assert wrong(link=["pcie9"])[0].endswith("a name, or keys with numbers, is expected")
    assert wrong(host=HOST)[0].startswith("gpu: is missing; write one")
    for kind, list_ in (("gpu", "gpus"), ("link", "links"), ("storage", "storage")):
        empty = {"gpu": "rtx-3090", "host": HOST, kind: {}}
        assert wrong(**empty)[0].startswith(f"{kind}: is empty; write one ('moesim list {list_}')")
    over = wrong(gpu="rtx-3090", host=HOST, link={"base": "pcie4-x16", "pcie": "20 GB/s"})
    assert over[0].startswith("datasheet.copies.h2d.pinned.bandwidth.value: is above the slot's")


@pytest.mark.parametrize(
    ("gpu", "host"), [("rtx-3090", "ddr5-6000-2ch-64gb"), ("mi300x", "epyc-9004-1s")]
)
def test_a_gpu_alone_stands_in_its_usual_host(gpu: str, host: str) -> None:
    alone, named = load_hardware(gpu), machine(gpu=gpu, host=host)
    assert (alone.name, alone.assumed_host, named.assumed_host) == (gpu, host, None)
    own = {"name", "title", "assumed_host"}
    assert alone.model_dump(exclude=own) == named.model_dump(exclude=own)
    assert machine(gpu=gpu) == machine(base=gpu) == alone
    other = machine(base=gpu, host="xeon-4th-1s")
    assert other.assumed_host is None
    assert other.host == machine(gpu=gpu, host="xeon-4th-1s").host


def test_some_numbers_of_a_host_stand_over_the_usual_one() -> None:
    some = machine(gpu="rtx-3090", host={"cores": 4})
    assert some.assumed_host == "ddr5-6000-2ch-64gb"
    assert some.host.cores.value == 4
    assert some.host == machine(gpu="rtx-3090", host={"base": some.assumed_host, "cores": 4}).host
    assert machine(gpu="rtx-4090", host={"cores": 4}).host == (
        machine(base="rtx-4090", host={"cores": 4}).host
    )
    assert wrong(gpu="rtx-3090", host={"corez": 4})[0].startswith("host.corez: is not a known key")
    (what,) = wrong(gpu="rtx-309", host={"cores": 4})
    assert what.startswith("gpu: 'rtx-309'")


def test_a_whole_machines_gpu_alone_is_the_machine() -> None:
    whole, alone = load_hardware("h100-sxm"), machine(gpu="h100-sxm")
    assert alone.calibrated == whole.calibrated
    assert (alone.network, alone.assumed_host) == (whole.network, None)
    assert alone.host.memory.value == whole.host.memory.value
    assert machine(gpu={"base": "h100-sxm", "memory": "40 GB"}).host_memory_bytes == (
        whole.host_memory_bytes
    )


def test_which_gpus_there_are() -> None:
    assert {"rtx-3090", "rtx-4090", "gb10"} <= set(gpu_names())
    assert "dgx-h100" not in gpu_names()


def test_the_file_of_a_machine_of_parts_is_its_gpus() -> None:
    files = {"gb10": "gb10", f"{{gpu: rtx-3090, host: {HOST}}}": "rtx-3090",
             f"{{gpu: h100-sxm, host: {HOST}}}": "h100-sxm",
             "{base: rtx-4090, host: {cores: 24}}": "rtx-4090"}  # fmt: skip
    for name, stem in files.items():
        assert hardware_file(name).stem == stem


def test_files_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"title: mine\nbase: {HOST}\nsources: {{seen: lscpu of my machine}}\n"
        "cores: {value: 12, source: seen}\n",
        encoding="utf-8",
    )
    mine = load_hardware("{gpu: rtx-3090, host: mine.yaml}", [tmp_path])
    assert (mine.host.cores.value, mine.host.cores.source) == (12, "mine seen")
    assert mine.sources["mine seen"] == "lscpu of my machine"
    assert mine.host.memory_bandwidth.value == 51.2e9
    path.write_text(path.read_text(encoding="utf-8").replace("source: seen", "source: sene"))
    with pytest.raises(InputError, match=r"mine.yaml:4:\d+: cores.source: 'sene' is not among"):
        load_hardware("{gpu: rtx-3090, host: mine.yaml}", [tmp_path])
    path.write_text(path.read_text(encoding="utf-8").replace("12, source: sene", "x, source: seen"))
    with pytest.raises(InputError, match=r"mine.yaml:4:\d+: cores.value: 'x'"):
        load_hardware("{gpu: rtx-3090, host: mine.yaml}", [tmp_path])


def test_a_machine_of_shipped_parts_is_made_once(tmp_path: Path) -> None:
    """One whose base is a file of one's own is read anew."""
    parts = "{base: mine, gpu: {memory: 8 GiB}}"
    assert load_hardware("{gpu: rtx-3090}") is load_hardware("{gpu: rtx-3090}")
    for title in ("one", "two"):
        (tmp_path / "mine").write_text(
            f"title: {title}\nbase: rtx-4060-8gb\nsources: {{}}\n", encoding="utf-8"
        )
        assert load_hardware(parts, [tmp_path]) is not load_hardware(parts, [tmp_path])


def test_one_memory() -> None:
    for text in ("gb10", "{gpu: gb10}", "{base: gb10}"):
        mine = load_hardware(text)
        assert mine.unified
        assert mine.gpus == 1
        assert mine.memory_bytes == mine.host_memory_bytes == 128_000_000_000
        assert mine.datasheet.memory_bandwidth.value == mine.host.memory_bandwidth.value
    assert machine(base="gb10", host={"cores": 10}).host.cores.value == 10
    assert machine(gpu={"base": "gb10", "memory": "64 GB"}).memory_bytes == 64_000_000_000
    assert not machine(gpu="rtx-3090", host=HOST).unified
    for part, value in (("host", HOST), ("link", "pcie4-x16"), ("peers", "pcie")):
        (what,) = wrong(gpu="gb10", **{part: value})
        assert what.startswith(f"{part}: 'gb10' shares one memory with its CPU")


def test_a_core_with_matrix_units_computes_more() -> None:
    plain = load_hardware("{gpu: rtx-3090, host: xeon-4th-1s}").host
    faster = load_hardware("{gpu: rtx-3090, host: xeon-4th-1s-amx}").host
    assert plain.core_rate is None
    assert faster.core_rate is not None
    assert faster.expert_bytes_per_second == plain.expert_bytes_per_second == 153_600_000_000
    assert plain.node_bytes_per_second == 245_760_000_000


@pytest.mark.parametrize("link", ["pcie5-x16", "pcie4-x16", "pcie3-x16", "pcie3-x4"])
def test_copies_of_pageable_memory_are_staged_by_the_host(link: str) -> None:
    """A thread of it moves them, pinned copies are the most; on other hosts they are the link's."""
    desktop, server = (
        load_hardware(f"{{gpu: rtx-5090, host: {host}, link: {link}}}").datasheet
        for host in ("ddr5-6000-2ch-64gb", "epyc-9005-1s")
    )
    for way in DIRECTIONS:
        pinned, pageable = desktop.copy_of(way), desktop.copy_of(way, pinned=False)
        assert pageable.bandwidth.value == min(22.7e9, pinned.bandwidth.value)
        assert pinned == server.copy_of(way)
        links = server.copy_of(way, pinned=False).bandwidth.value
        assert links < 11e9 or link == "pcie5-x16", "measured on other machines"


def test_a_shipped_machine_on_another_host_stages_as_that_host_does() -> None:
    for host, rate in (("ddr5-6000-2ch-64gb", 22.7e9), ("epyc-9005-1s", None)):
        found = load_hardware(f"{{gpu: rtx-3060-12gb, host: {host}}}").datasheet
        before = load_hardware("rtx-3060-12gb").datasheet
        for way in DIRECTIONS:
            mine, its = found.copy_of(way, pinned=False), before.copy_of(way, pinned=False)
            pinned = before.copy_of(way).bandwidth.value
            assert mine.bandwidth.value == (min(rate, pinned) if rate else its.bandwidth.value)
