"""Every shipped profile: it loads, every number has its source, and no number is impossible."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from moesim.config.errors import InputError
from moesim.config.files.paths import shipped_folder
from moesim.config.params import Params
from moesim.config.strict_yaml.yaml import is_cut
from moesim.hardware import hardware_names, load_hardware, load_software, software_names
from moesim.hardware.profile import HardwareProfile

FOLDER = shipped_folder() / "hardware_profiles"
FILES = sorted(FOLDER.rglob("*.yaml"))
GOLDEN = {  # GiB, GB/s, dense bf16 (V100: fp16) TFLOP/s, one direction to other GPUs GB/s
    "v100-sxm2-32gb": (32, 900, 125, 150),
    "a100-sxm-80gb": (80, 2039, 312, 300),
    "h100-sxm": (80, 3350, 989, 450),
    "h200-sxm": (140, 4800, 989, 450),
    "b200-sxm": (179, 8000, 2250, 900),
    "b300-sxm": (269, 8000, 2250, 900),
    "gb200": (185, 8000, 2500, 900),
    "gb300": (277.5, 8000, 2500, 900),
    "l40s": (45, 864, 362, 26),
    "rtx-3060-12gb": (12, 360, 25, 26),
    "rtx-4060-8gb": (8, 272, 30, 13),
    "rtx-4090": (24, 1008, 165, 26),
    "rtx-5090": (32, 1792, 209, 53),
    "rtx-pro-6000": (96, 1792, 504, 53),
    "quadro-rtx-6000": (24, 672, 131, 12),
}
CALIBRATED = {
    "a100-sxm-80gb",
    "h100-sxm",
    "h200-sxm",
    "b200-sxm",
    "b300-sxm",
    "gb200",
    "gb300",
    "l40s",
    "rtx-pro-6000",
}
ON_GRACE = ("gb200", "gb300")
NODES = {
    "dgx-1-v100": "v100-sxm2-32gb",
    "dgx-a100": "a100-sxm-80gb",
    "dgx-h100": "h100-sxm",
    "dgx-h200": "h200-sxm",
    "dgx-b200": "b200-sxm",
}
SOFTWARE = [
    "fairseq",
    "hf-eager",
    "ideal",
    "ik_llama.cpp",
    "ik_llama.cpp-no-mmap",
    "ik_llama.cpp@2025-05",
    "imp@1365",
    "ktransformers@0.2",
    "ktransformers@0.7",
    "llama.cpp",
    "llama.cpp-cache",
    "llama.cpp-cpu",
    "llama.cpp-no-mmap",
    "llama.cpp@b5xxx",
    "llama.cpp@b6xxx",
    "llama.cpp@b8xxx",
    "mixtral-offloading",
    "moe-infinity",
    "sglang",
    "synchronous",
    "trtllm",
    "vllm",
    "vllm-marlin",
    "vllm-mxfp8",
    "vllm@0.14",
    "vllm@0.19",
]
SLOTS = (0.985 * 16, 16.0, 31.5, 63.0, 15.75, 450.0)  # GB/s: PCIe 3, 4, 5 x16, 4 x8; C2C
NUMBERS_WITHOUT_SOURCE = {
    "numa",
    "gpus",
    "link",
    "usual_host",
}  # wiring: one source for all of it; names


def unsourced(value: object, path: str = "") -> list[str]:
    """Paths of the numbers (and texts with a number) that stand outside value-and-source pairs."""
    if isinstance(value, dict):
        if "value" in value:
            return (
                []
                if set(value) - {"gpus", "trace", "experts_per_token", "low", "high"}
                == {"value", "source"}
                else [path]
            )
        return [
            found
            for key, entry in value.items()
            if key not in NUMBERS_WITHOUT_SOURCE
            for found in unsourced(entry, f"{path}.{key}")
        ]
    if isinstance(value, list):
        return [p for index, entry in enumerate(value) for p in unsourced(entry, f"{path}.{index}")]
    return [path] if re.search(r"\d", str(value)) else []


def facts(part: Params, profile: HardwareProfile) -> object:
    """The numbers of a part, each with the text of its source."""

    def told(value: object) -> object:
        if not isinstance(value, dict):
            return value
        content = {key: told(entry) for key, entry in value.items()}
        return (
            content | {"source": profile.sources[value["source"]]} if "source" in value else content
        )

    return told(part.model_dump())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_has_a_source(path: Path) -> None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    # fits have one source each, by their model
    apart = ("end_mark", "title", "since", "sources", "base", "calibrated")
    rest = {key: part for key, part in content.items() if key not in apart}
    assert unsourced(rest) == []
    text = path.read_text(encoding="utf-8").split("sources:", 1)[1]
    for key, source in content["sources"].items():
        assert len(source) > 20
        assert "http" not in source
        assert re.search(rf"source: \"?{key}\b", text), f"{key} is not used"


def test_what_is_shipped() -> None:
    assert set(hardware_names()) == set(GOLDEN) | set(NODES)
    assert software_names() == SOFTWARE
    for name in software_names():
        assert load_software(name).name == name


@pytest.mark.parametrize("name", GOLDEN)
def test_headline_figures(name: str) -> None:
    profile, (memory, bandwidth, compute, peers) = load_hardware(name), GOLDEN[name]
    sheet = profile.datasheet
    assert profile.memory_bytes / 2**30 == pytest.approx(memory, abs=0.5)
    assert sheet.memory_bandwidth.value / 1e9 == bandwidth
    assert profile.peak("bf16") / 1e12 == pytest.approx(compute, abs=1)
    assert sheet.peers.bandwidth.value / 1e9 == pytest.approx(peers, abs=0.5)
    assert (sheet.peers.kind == "nvlink") == (not name.startswith(("rtx", "l40s", "quadro")))
    has_experts = profile.calibrated is not None and bool(profile.calibrated.experts)
    assert has_experts == (name in CALIBRATED)


@pytest.mark.parametrize("name", [*GOLDEN, *NODES])
def test_physical_bounds(name: str) -> None:
    profile = load_hardware(name)
    sheet, host = profile.datasheet, profile.host
    assert sheet.pcie.value / 1e9 in SLOTS
    ridge = profile.peak("fp16") / sheet.memory_bandwidth.value
    assert 50 < ridge < 500, "operations a byte"
    assert sheet.l2.value < 1e-2 * profile.memory_bytes
    assert 0.02 < profile.context_bytes / 2**30 < 1
    assert 0.1e12 < sheet.compute.fp32.value < sheet.compute.fp16.value
    for rate in (sheet.bandwidth_fraction, sheet.compute_fraction, host.memory_fraction):
        assert 0.3 < rate.value < 1
    for direction in ("h2d", "d2h"):
        pinned, pageable = sheet.copy_of(direction), sheet.copy_of(direction, pinned=False)
        assert 0.7 < pinned.bandwidth.value / sheet.pcie.value < 0.98
        if name not in ON_GRACE:
            assert pageable.bandwidth.value < pinned.bandwidth.value
        assert 1000 < pinned.latency_ns < 20_000
    reached = sheet.peers.all_to_all_bytes_per_second
    assert 0.2 * sheet.peers.bandwidth.value < reached < sheet.peers.bandwidth.value
    assert 25e9 < host.memory_bandwidth.value < 600e9
    assert 2**35 < profile.host_memory_bytes < 2**43


@pytest.mark.parametrize("name", ON_GRACE)
def test_a_superchip_is_its_gpu_on_the_shipped_host_and_link(name: str) -> None:
    whole = load_hardware(name)
    parts = load_hardware(f"{{gpu: {name}, host: grace, link: nvlink-c2c}}")
    assert facts(whole.host, whole) == facts(parts.host, parts)
    assert facts(whole.datasheet, whole) == facts(parts.datasheet, parts)
    assert whole.calibrated == parts.calibrated


@pytest.mark.parametrize("name", NODES)
def test_nodes(name: str) -> None:
    node, card = load_hardware(name), load_hardware(NODES[name])
    assert node.datasheet == card.datasheet
    assert node.topology is not None
    assert node.network is not None
    assert node.gpus == 8
    pairs = [switch.gpus for switch in node.topology.switches]
    assert pairs == [(0, 1), (2, 3), (4, 5), (6, 7)]
    for switch in node.topology.switches:
        assert node.links(1).rate(0, "h2d") <= switch.uplink.value <= card.datasheet.pcie.value
    assert node.links([0, 1]).shared("h2d") == {"switch 0 h2d"}
    assert card.links(8).shared("both") == frozenset()
    assert 10e9 < node.network.bandwidth.value < 100e9
    assert 4e9 <= node.network.bytes_per_second <= node.network.bandwidth.value
    assert node.network.nics.value in (4, 8)


@pytest.mark.parametrize("name", sorted(CALIBRATED))
def test_fits_say_what_they_rest_on_and_are_possible(name: str) -> None:
    profile = load_hardware(name)
    assert (FOLDER / f"{name}.yaml").stat().st_size < 450_000
    assert profile.calibrated is not None
    sheet, dtypes = profile.datasheet, set()
    for fit in profile.calibrated.experts:
        assert fit.dtype
        dtypes.add(fit.dtype)
        assert fit.framework
        assert fit.version
        assert fit.points >= 30
        assert fit.held_out is not None or fit.shapes < 4
        assert fit.bandwidth.value <= sheet.memory_bandwidth.value * 1.001
        assert fit.compute.value <= profile.peak(fit.dtype) * 1.001
        for number in (fit.start, fit.bandwidth, fit.compute, fit.overlap, fit.l2):
            low, high = number.interval
            assert low <= number.value <= high
    assert "bf16" in dtypes


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_profile_that_is_cut_at_any_place_is_seen(path: Path) -> None:
    """Before its end mark a file has comments alone, which are no profile."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n...\n")
    says = text.index("end_mark:")
    assert all(line.startswith("#") for line in text[:says].splitlines())
    assert not is_cut(text)
    assert not is_cut(f"{text}# a note, which may be cut")
    first, last = says + len("end_mark:"), len(text) - len("...\n")
    apart = max(101, (last - first) // 100)  # each cut is read to its end
    for end in (*range(first, last, apart), *range(last - 60, last)):
        assert is_cut(text[:end])


@pytest.mark.parametrize("lines", [0, 1, 2, 4, -20, -1])
def test_a_cut_profile_is_refused(tmp_path: Path, lines: int) -> None:
    text = (FOLDER / "dgx-h100.yaml").read_text(encoding="utf-8")
    path = tmp_path / "cut.yaml"
    path.write_text("".join(text.splitlines(keepends=True)[:lines]))
    with pytest.raises(InputError, match=r"cut\.yaml(:1:1)?: (was cut|is empty)"):
        load_hardware(str(path))
    software = (FOLDER / "software" / "hf-eager.yaml").read_text(encoding="utf-8")
    path.write_text("".join(software.splitlines(keepends=True)[:lines]))
    with pytest.raises(InputError, match=r"cut\.yaml(:1:1)?: (was cut|is empty)"):
        load_software(str(path))
