"""Machines by the names that tools and people have for them."""

from __future__ import annotations

import re

import pytest

from moesim.config.errors import InputError
from moesim.hardware import gpu_names, hardware_names, load_hardware, machine_named
from moesim.hardware.described.names import PLATFORMS, RENTED, known_part, near_gpus, near_parts
from moesim.hardware.layers import part_names
from moesim.hardware.load import card_names, unified_names
from moesim.sweep.advise.question import Question, assembled

SMI = {
    "a100-pcie-40gb": "NVIDIA A100-PCIE-40GB", "a100-pcie-80gb": "NVIDIA A100 80GB PCIe",
    "a100-sxm-40gb": "NVIDIA A100-SXM4-40GB", "a100-sxm-80gb": "NVIDIA A100-SXM4-80GB",
    "b200-sxm": "NVIDIA B200", "b300-sxm": "NVIDIA B300 SXM6 AC", "gb10": "NVIDIA GB10",
    "gb200": "NVIDIA GB200", "gb300": "NVIDIA GB300", "h100-sxm": "NVIDIA H100 80GB HBM3",
    "h20": "NVIDIA H20", "h200-sxm": "NVIDIA H200", "l4": "NVIDIA L4", "l40s": "NVIDIA L40S",
    "jetson-agx-orin-32gb": "NVIDIA Jetson AGX Orin 32GB",  # driver: Orin (nvgpu)
    "m2-ultra-192gb": "Apple M2 Ultra", "m3-ultra-512gb": "Apple M3 Ultra",
    "m4-max-128gb": "Apple M4 Max", "mi300x": "AMD Instinct MI300X OAM",
    "mi355x": "AMD Instinct MI355X", "quadro-rtx-6000": "Quadro RTX 6000",
    "phone-12gb": "phone-12gb", "a10": "NVIDIA A10", "a10g": "NVIDIA A10G", "a40": "NVIDIA A40",
    "arc-b580": "Intel(R) Arc(TM) B580 Graphics", "gh200": "NVIDIA GH200",
    "h100-nvl": "NVIDIA H100 NVL", "h100-pcie": "NVIDIA H100 PCIe", "h800-sxm": "NVIDIA H800",
    "jetson-agx-orin-64gb": "NVIDIA Jetson AGX Orin 64GB", "l40": "NVIDIA L40",
    "p40": "Tesla P40",
    "m1-max-64gb": "Apple M1 Max", "m1-ultra-128gb": "Apple M1 Ultra",
    "m2-max-96gb": "Apple M2 Max", "m3-max-128gb": "Apple M3 Max", "m4-pro-64gb": "Apple M4 Pro",
    "mi325x": "AMD Instinct MI325X", "mi50-32gb": "AMD Instinct MI50",
    "rtx-5000-ada": "NVIDIA RTX 5000 Ada Generation",
    "rtx-6000-ada": "NVIDIA RTX 6000 Ada Generation", "rx-7900-xt": "AMD Radeon RX 7900 XT",
    "rx-9070-xt": "AMD Radeon RX 9070 XT",
    "radeon-ai-pro-r9700": "AMD Radeon AI PRO R9700", "rtx-a5000": "NVIDIA RTX A5000",
    "rtx-a6000": "NVIDIA RTX A6000", "rx-6900-xt": "AMD Radeon RX 6900 XT",
    "rtx-pro-6000": "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
    "rx-7900-xtx": "AMD Radeon RX 7900 XTX", "t4": "Tesla T4",
    "strix-halo-128gb": "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S",
    "v100-sxm2-32gb": "Tesla V100-SXM2-32GB", "rtx-4090d": "NVIDIA GeForce RTX 4090 D",
    "rtx-3060-12gb": "NVIDIA GeForce RTX 3060", "rtx-4060-8gb": "NVIDIA GeForce RTX 4060",
    "titan-rtx": "NVIDIA TITAN RTX",
    "quadro-rtx-8000": "Quadro RTX 8000",
    "a2": "NVIDIA A2",
    "a30": "NVIDIA A30",
    "l20": "NVIDIA L20",
    "h200-nvl": "NVIDIA H200 NVL",
    "p100-16gb": "Tesla P100-PCIE-16GB",
    "v100-pcie-16gb": "Tesla V100-PCIE-16GB",
    "v100-pcie-32gb": "Tesla V100-PCIE-32GB",
    "v100-sxm2-16gb": "Tesla V100-SXM2-16GB",
    "mi60-32gb": "AMD Instinct MI60",
    "mi100-32gb": "AMD Instinct MI100",
    "radeon-vii": "AMD Radeon VII",
    "mi210": "AMD Instinct MI210",
    "arc-a770-16gb": "Intel(R) Arc(TM) A770 Graphics",
    "arc-b570": "Intel(R) Arc(TM) B570 Graphics",
    "arc-pro-b60": "Intel(R) Arc(TM) Pro B60 Graphics",
    "gtx-1650-super": "NVIDIA GeForce GTX 1650 SUPER",
    "gtx-1660-super": "NVIDIA GeForce GTX 1660 SUPER",
    "gtx-1660-ti": "NVIDIA GeForce GTX 1660 Ti",
    "gtx-1070": "NVIDIA GeForce GTX 1070",
    "gtx-1080": "NVIDIA GeForce GTX 1080",
    "gtx-1080-ti": "NVIDIA GeForce GTX 1080 Ti",
    "rtx-a2000-12gb": "NVIDIA RTX A2000 12GB",
    "rtx-a4000": "NVIDIA RTX A4000",
    "rtx-a4500": "NVIDIA RTX A4500",
    "rtx-a5500": "NVIDIA RTX A5500",
    "rtx-2000-ada": "NVIDIA RTX 2000 Ada Generation",
    "rtx-4000-ada": "NVIDIA RTX 4000 Ada Generation",
    "rtx-4500-ada": "NVIDIA RTX 4500 Ada Generation",
    "rtx-pro-4000": "NVIDIA RTX PRO 4000 Blackwell",
    "rtx-pro-4500": "NVIDIA RTX PRO 4500 Blackwell",
    "rtx-pro-5000": "NVIDIA RTX PRO 5000 Blackwell",
    "rtx-pro-6000-max-q": "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
    "rtx-3080-12gb": "NVIDIA GeForce RTX 3080 12GB",
    "radeon-pro-w7800-32gb": "AMD Radeon PRO W7800",
    "radeon-pro-w7900": "AMD Radeon PRO W7900",
    "rx-9060-xt-16gb": "AMD Radeon RX 9060 XT",
    "m1-16gb": "Apple M1",
    "m1-pro-32gb": "Apple M1 Pro",
    "m2-24gb": "Apple M2",
    "m2-pro-32gb": "Apple M2 Pro",
    "m3-24gb": "Apple M3",
    "m3-pro-36gb": "Apple M3 Pro",
    "m3-max-36gb": "Apple M3 Max 36GB",
    "m4-max-36gb": "Apple M4 Max 36GB",
    "m4-32gb": "Apple M4",
    "rx-6700-xt": "AMD Radeon RX 6700 XT",
    "rx-6800": "AMD Radeon RX 6800",
    "rx-6800-xt": "AMD Radeon RX 6800 XT",
    "rx-6950-xt": "AMD Radeon RX 6950 XT",
    "rx-7600-xt": "AMD Radeon RX 7600 XT",
    "rx-7700-xt": "AMD Radeon RX 7700 XT",
    "rx-7800-xt": "AMD Radeon RX 7800 XT",
    "rx-7900-gre": "AMD Radeon RX 7900 GRE",
    "rx-9070": "AMD Radeon RX 9070",
    "m1-max-32gb": "Apple M1 Max 32GB",
    "m1-ultra-64gb": "Apple M1 Ultra 64GB",
    "m1-pro-16gb": "Apple M1 Pro 16GB",
    "m1-8gb": "Apple M1 8GB",
    "m2-8gb": "Apple M2 8GB",
    "m2-16gb": "Apple M2 16GB",
    "m2-pro-16gb": "Apple M2 Pro 16GB",
    "m2-max-32gb": "Apple M2 Max 32GB",
    "m2-max-64gb": "Apple M2 Max 64GB",
    "m2-ultra-64gb": "Apple M2 Ultra 64GB",
    "m2-ultra-128gb": "Apple M2 Ultra 128GB",
    "m3-8gb": "Apple M3 8GB",
    "m3-16gb": "Apple M3 16GB",
    "m3-pro-18gb": "Apple M3 Pro 18GB",
    "m3-max-48gb": "Apple M3 Max 48GB",
    "m3-max-64gb": "Apple M3 Max 64GB",
    "m3-ultra-96gb": "Apple M3 Ultra 96GB",
    "m3-ultra-256gb": "Apple M3 Ultra 256GB",
    "m4-16gb": "Apple M4 16GB",
    "m4-24gb": "Apple M4 24GB",
    "m4-pro-24gb": "Apple M4 Pro 24GB",
    "m4-pro-48gb": "Apple M4 Pro 48GB",
    "m4-max-48gb": "Apple M4 Max 48GB",
    "m4-max-64gb": "Apple M4 Max 64GB",
    "strix-halo-64gb": "AMD RYZEN AI MAX+ 395 64GB",
    "strix-halo-96gb": "AMD RYZEN AI MAX+ 395 96GB",
    "mi50-16gb": "AMD Instinct MI50 16GB",
}  # fmt: skip
"""What the driver calls each (nvidia-smi, rocm-smi, the system), as far as it is remembered; of a
GH200 with the gigabytes of its host behind.
"""
TWICE = ("rtx-4060-ti", "rtx-5060-ti")
"""Cards of two sizes and one name."""


def _said(name: str) -> str:
    """As nvidia-smi names a card that is called like its file."""
    words = name.removeprefix("rtx-").replace("-", " ").upper()
    return "NVIDIA GeForce RTX " + words.replace(" TI", " Ti")


@pytest.mark.parametrize("name", gpu_names())
def test_what_the_driver_prints(name: str) -> None:
    assert name in SMI or name.startswith("rtx-"), f"what does the driver call '{name}'?"
    said = SMI.get(name) or _said(name)
    assert known_part(said, gpu_names()) == machine_named(said) == name


@pytest.mark.parametrize("name", TWICE)
def test_a_name_of_two_sizes_is_asked_about(name: str) -> None:
    assert machine_named(_said(name)) is None
    both = f"may be any of {name}-16gb, {name}-8gb; write which"
    assert both in near_parts(_said(name), gpu_names())
    with pytest.raises(InputError, match=both):
        load_hardware(f"{{gpu: {_said(name)}, host: ddr5-6000-2ch-64gb}}")


@pytest.mark.parametrize(
    ("written", "near"),
    [
        ("NVIDIA H100 MIG", "h100"),
        ("NVIDIA GeForce RTX 4050 Laptop GPU", "rtx-4070-laptop"),
        ("NVIDIA RTX PRO 2000 Blackwell", "rtx-pro-4000"),
        ("NVIDIA RTX 4000 SFF Ada Generation", "rtx-4000-ada"),
        ("RTX 3080 16GB", "rtx-3080"),
        ("Tesla V100", "v100-sxm2-16gb"),
        ("Apple M5 Max", "max"),
        ("RTX 8000", "quadro-rtx-8000"),
        ("RTX 6000", "quadro-rtx-6000, rtx-6000-ada, rtx-a6000, rtx-pro-6000"),
        ("A100", "a100-sxm-40gb"),
        ("", ""),
    ],
)
def test_other_cards_are_not_taken_for_it(written: str, near: str) -> None:
    assert machine_named(written) is None
    assert near in near_parts(written, gpu_names())


@pytest.mark.parametrize(
    ("written", "gpu"),
    [
        ("MacBook Pro M4 Max 128GB", "m4-max-128gb"),
        ("Mac Studio M3 Ultra 512GB", "m3-ultra-512gb"),
        ("Mac mini, M4 Pro", None),
        ("RTX4060Ti 16GB", "rtx-4060-ti-16gb"),
        ("RTX4090", "rtx-4090"),
        ("RX7900XTX", "rx-7900-xtx"),
        ("RTX8000", None),
    ],
)
def test_machines_around_a_chip_and_names_without_spaces(written: str, gpu: str | None) -> None:
    assert known_part(written, {*gpu_names(), *card_names(), *unified_names()}) == gpu


@pytest.mark.parametrize("written", ["2x RTX 3090", "2 x NVIDIA GeForce RTX 3090", "2*rtx-3090"])
def test_several_of_a_gpu_are_asked_for_beside_it(written: str) -> None:
    told = "write 'rtx-3090', and parallelism: {expert: 2} or --gpus 2"
    for name in (written, f"{{gpu: {written}}}"):
        with pytest.raises(InputError, match=re.escape(told)):
            load_hardware(name)


def test_several_hosts_are_not_told_to_be_gpus() -> None:
    with pytest.raises(InputError) as caught:
        load_hardware("{gpu: rtx-3090, host: 2x xeon-4th-1s}")
    assert "parallelism" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "hosts"),
    [
        ("AMD EPYC 7302 16-Core Processor", "epyc-7002-1s, epyc-7002-2s"),
        ("AMD EPYC 7B13 64-Core Processor", "epyc-7003-1s, epyc-7003-2s"),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "xeon-v4-1s, xeon-v4-2s"),
        ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", "xeon-2nd-1s, xeon-2nd-2s"),
        ("AMD Ryzen Threadripper PRO 5975WX 32-Cores", "ddr4-3200-8ch-256gb"),
        ("AMD Ryzen 7 5800X 8-Core Processor", "ddr4-3200-2ch-128gb, ddr4-3200-2ch-32gb"),
    ],
)
def test_a_cpu_is_told_the_hosts_that_it_usually_has(written: str, hosts: str) -> None:
    assert known_part(written, part_names("host")) is None
    with pytest.raises(InputError, match=f"its usual hosts: {hosts}"):
        load_hardware(f"{{gpu: rtx-3090, host: {written}}}")


def test_every_usual_host_is_shipped() -> None:
    for begin in PLATFORMS.values():
        assert any(name.startswith(f"{begin}-") for name in part_names("host")), begin


@pytest.mark.parametrize("machine", RENTED)
def test_a_rented_machine_is_told_by_its_gpus(machine: str) -> None:
    assert RENTED[machine] in {*gpu_names(), *hardware_names()}
    told = f"its GPUs are those of '{RENTED[machine]}': write that, and its host where you know it"
    with pytest.raises(InputError, match=re.escape(told)):
        load_hardware(machine.upper())


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("AMD Ryzen 9 7950X 16-Core Processor", "ryzen-9-7950x-ddr5-5600-2ch"),
        ("13th Gen Intel(R) Core(TM) i9-13900K", "core-i9-13900k-ddr5-4000-2ch"),
        ("Intel(R) Core(TM) i9-10900X CPU @ 3.70GHz", "core-i9-10900x-ddr4-3200-4ch"),
        ("Intel(R) Xeon(R) Gold 6138 CPU @ 2.00GHz", "xeon-gold-6138-2s-16t-ddr4-2666-6ch"),
        ("DDR5-5600 64GB", "ddr5-5600-2ch-64gb"),
        ("EPYC 9004 1s", "epyc-9004-1s"),
        ("EPYC 9004", None),
        ("AMD Ryzen 7 5800X", None),
    ],
)
def test_hosts_by_processor_and_by_memory(written: str, host: str | None) -> None:
    assert known_part(written, part_names("host")) == host


def test_every_shipped_name_is_itself() -> None:
    for known in (gpu_names(), hardware_names(), part_names("host"), part_names("link")):
        assert [known_part(name.upper(), known) for name in known] == known


def test_every_door_reads_them() -> None:
    machine = load_hardware("{gpu: NVIDIA GeForce RTX 3090, host: DDR5-5600 64GB}")
    same = load_hardware("{gpu: rtx-3090, host: ddr5-5600-2ch-64gb}")
    assert machine.datasheet == same.datasheet
    assert machine.host == same.host
    assert load_hardware("NVIDIA H100 80GB HBM3").name == "h100-sxm"
    assert load_hardware("Apple M4 Max") == load_hardware("m4-max-128gb")
    assert load_hardware("NVIDIA GeForce RTX 3090") == load_hardware("rtx-3090")
    question = Question("gpt-oss-20b", gpu="Apple M4 Max", context=4096)
    assert assembled(question).data["hardware"] == "Apple M4 Max"


def test_a_card_without_its_form_is_the_module() -> None:
    written = ("H100", "NVIDIA H100 80GB HBM3", "H100 PCIe", "A100 80GB", "NVIDIA A100 80GB PCIe")
    assert [machine_named(one) for one in written] == [
        "h100-sxm", "h100-sxm", "h100-pcie", "a100-sxm-80gb", "a100-pcie-80gb",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("RTX 4090 48GB", "another memory: write gpu: {base: rtx-4090, memory: 48 GB} in hardware"),
        ("2080 Ti 22GB", "--set 'hardware.gpu.memory=22 GB'"),
        ("RTX 6000 Pro", "did you mean 'rtx-pro-6000'?"),
    ],
)
def test_cards_with_another_memory_or_order_of_words_are_told_what_to_write(
    name: str, told: str
) -> None:
    assert told in near_gpus(name, gpu_names())


def test_what_is_told_of_another_memory_can_be_written() -> None:
    machine = load_hardware("{gpu: {base: rtx-4090, memory: 48 GB}}")
    assert machine.datasheet.memory.value == 48_000_000_000


@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("i9-14900K DDR5-6400 96GB", "ddr5-6400-2ch-96gb"),
        ("ryzen 5 5600 32GB", "ddr4-3200-2ch-32gb, ddr4-3600-2ch-32gb"),
        ("EPYC 9554 768GB", "epyc-9004-1s, epyc-9004-2s"),
    ],
)
def test_a_cpu_that_says_its_memory_is_told_hosts_that_have_it(name: str, hosts: str) -> None:
    assert f"its usual hosts: {hosts};" in near_parts(name, part_names("host"))
