"""Broken profiles: each gives one clear line with file, line and column."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.config.files.paths import shipped_folder
from moesim.hardware import load_hardware, load_software

SHIPPED = shipped_folder() / "hardware_profiles"
CARD = (SHIPPED / "rtx-4060-8gb.yaml").read_text(encoding="utf-8")
NODE = (SHIPPED / "dgx-h100.yaml").read_text(encoding="utf-8")
FITS = (SHIPPED / "h100-sxm.yaml").read_text(encoding="utf-8")
EAGER = (SHIPPED / "software" / "hf-eager.yaml").read_text(encoding="utf-8")

MEMORY = "memory: {value: 8 GiB, source: datasheet}"
BANDWIDTH = "memory_bandwidth: {value: 272 GB/s, source: datasheet}"
WIRING = NODE[NODE.index("topology:") : NODE.index("\n...")]
SWITCH = "{gpus: [0, 1], uplink"

HARDWARE = {  # what stands there, what is written instead, what is said
    "no unit": (CARD, MEMORY, "memory: {value: 8, source: datasheet}", "memory.value: 8 "),
    "bits for bytes": (CARD, "value: 8 GiB", "value: 8 Gb", "datasheet.memory.value: .*bits"),
    "negative": (CARD, "value: 8 GiB", "value: -8 GiB", "datasheet.memory.value: .*-8 GiB"),
    "zero": (CARD, "value: 8 GiB", "value: 0 GiB", "datasheet.memory.value: "),
    "bytes for a rate": (CARD, "272 GB/s", "272 GB", "datasheet.memory_bandwidth.value: .*272 GB"),
    "wrong unit prefix": (CARD, "272 GB/s", "272 MB/s", "memory_bandwidth.value: .*is the unit"),
    "missing number": (CARD, f"  {BANDWIDTH}\n", "", "datasheet.memory_bandwidth: is missing"),
    "no source": (CARD, MEMORY, "memory: {value: 8 GiB}", "datasheet.memory.source: is missing"),
    "bare number": (CARD, MEMORY, "memory: 8 GiB", "datasheet.memory: .*keys with values.*source"),
    "almost no bandwidth": (CARD, "value: 15.75 GB/s", "value: 1e-9 GB/s", "pcie.value: .*1 MB/s to"),  # noqa: E501
    "almost no share": (CARD, "value: 84 %", "value: 1e-9 %", "compute_fraction.value: .*0.1 % to"),
    "milliseconds of a kernel": (CARD, "value: 4 us", "value: 4 ms", "kernel_start.value: .*unit right"),  # noqa: E501
    "milliseconds of a copy": (CARD, "value: 7 us", "value: 7 ms", "h2d.pinned.latency.value: .*to 1 ms"),  # noqa: E501
    "endless rows": (CARD, "rows: {value: 0,", "rows: {value: 1000000000000000000,", "1000000 or less"),  # noqa: E501
    "endless multiprocessors": (CARD, "value: 24,", "value: 1000000000000000000,", "1000000 or less"),  # noqa: E501
    "unknown source": (
        CARD,
        MEMORY,
        MEMORY.replace("datasheet", "datashet"),
        "datasheet.memory.source: 'datashet'.*did you mean 'datasheet'",
    ),
    "unknown key": (CARD, "  l2:", "  l3:", "datasheet.l3: is not a known key.* l2,"),
    "unknown dtype": (CARD, "    fp8:", "    fp9:", "datasheet.compute.fp9: is not a known key"),
    "share above one": (CARD, "value: 90 %", "value: 190 %", "bandwidth_fraction.*100 %"),
    "share without unit": (CARD, "value: 90 %", "value: 0.9", "bandwidth_fraction.value: 0.9"),
    "narrow slower than wide": (CARD, "60.5 TFLOP/s", "6.05 TFLOP/s", "compute.fp8.*below fp16"),
    "context takes all": (CARD, "512 MiB", "9 GiB", "context_reserve.value: 9 GiB takes the whole"),
    "memory below its cache": (CARD, MEMORY, MEMORY.replace("8 GiB", "1 MiB"),
                               "memory.value: 1 MiB is not above the 24 MiB of its L2"),
    "copy above the slot": (CARD, "13.1 GB/s, source: gen4x8}\n      pageable", ("17 GB/s, source: "
                            "gen4x8}\n      pageable"), "h2d.pinned.*above the slot.*15.75 GB/s"),
    "pageable above pinned": (CARD, "value: 8.4 GB/s", "value: 14 GB/s", "pageable.*staged"),
    "unknown peers": (CARD, "kind: pcie", "kind: pci", "peers.kind: 'pci' is not known.*'pcie'"),
    "not a count": (CARD, "value: 24, ", "value: 24.5, ", "multiprocessors.value: 24.5 is"),
    "no title": (CARD, 'title: "NVIDIA GeForce RTX 4060 8 GB"\n', "", "title: is missing"),
    "key twice": (CARD, "  l2:", "  memory: 1\n  l2:", "datasheet.memory: "),
    "not YAML": (CARD, "compute:\n", "compute: {\n", "this is not YAML"),
    "tab": (CARD, "  l2:", "\tl2:", "a tab cannot indent YAML"),
    "fitted among datasheet": (CARD, "host:\n", "calibrated: {moe: 1}\nhost:\n", "calibrated.moe"),
    "no base, no datasheet": (NODE, "base: h100-sxm\n", "", "datasheet: is missing.*'base'"),
    "unknown base": (NODE, "base: h100-sxm", "base: h100-x", "base: .*near it: h100-pcie"),
    "base is itself": (NODE, "base: h100-sxm", "base: broken.yaml", "base: .*rests on itself"),
    "unknown wiring": (NODE, WIRING, "topology: dgx-h10", "topology: .*'dgx-h100'"),
    "GPU on two switches": (NODE, SWITCH, "{gpus: [0, 2], uplink", "switches.1.gpus: .*2 again"),
    "GPU of no node": (NODE, SWITCH, "{gpus: [0, 9], uplink", "switches.0.gpus: .*GPU 9"),
    "GPU missing": (NODE, "[0, 1, 2, 3]", "[0, 1, 2]", "topology.numa: .*must stand there"),
    "source renamed": (NODE, "  wiring: ", "  fits: another\n  wiring: ", "sources.fits: .*another key"),  # noqa: E501
}  # fmt: skip

FITTED = {
    "ends of an interval": (
        FITS, "start: {value: 33.298 us, interval: [31", "start: {value: 33.298 us, interval: [41",
        "experts.0.start: 'interval' does not ascend"),
    "least and largest": (FITS, "measured: {tokens: [1, 4096]", "measured: {tokens: [9, 4]",
        "experts.0: 'measured' of 'tokens' does not ascend"),
    "range left out": (FITS, "experts: [8, 512], top_k: [1, 10]}", "top_k: [1, 10]}",
        "experts.0: 'measured' has no 'experts'"),
    "unknown op of attention": (FITS, 'op: "attention_prefill"', 'op: "attention"',
        "attention.*'op' is one of attention_prefill"),
    "unknown collective": (FITS, 'op: "all_reduce"', 'op: "all_reduc"', "'op' is one of all_red"),
    "unsorted tokens": (FITS, 'tokens: "4 8 ', 'tokens: "8 4 ', "'tokens' do not ascend"),
    "ratio below zero": (FITS, 'ratio: "0', 'ratio: "-0', "ratio.0: -0.* or more"),
    "no row of numbers": (FITS, 'ratio: "0', 'ratio: "x0', "'x0.* is not a row of numbers"),
    "unknown family": (FITS, 'family: "triton', 'family: "tryton', "family: 'tryton"),
}  # fmt: skip

SOFTWARE = {
    "time without unit": (EAGER, "value: 10 us", "value: 10", "launch.value: 10 "),
    "half a kernel": (EAGER, "value: 33,", "value: 33.5,", "kernels.attention.value: 33.5"),
    "milliseconds of a launch": (
        EAGER,
        "value: 10 us",
        "value: 10 ms",
        "launch.value: '10 ms' is out",
    ),
    "milliseconds of a wait": (
        EAGER,
        "value: 30 us",
        "value: 30 ms",
        "synchronisation.value: .*5 ms",
    ),
    "endless kernels": (EAGER, "value: 33,", "value: 1000000000000000000,", "1000000 or less"),
    "endless waits": (
        EAGER,
        "synchronisations: {value: 5,",
        "synchronisations: {value: 1000000000000,",
        "synchronisations.value: .*1000000 or less",
    ),
    "no number": (EAGER, "value: 33,", "value: .nan,", "kernels.attention.value: "),
    "no time": (EAGER, "value: 10 us", "value: .nan", "launch.value: "),
    "negative count": (EAGER, "value: 13,", "value: -13,", "kernels.expert.value: -13 .*0 or more"),
    "yes for true": (EAGER, "value: true", "value: yes", "blocking.value: 'yes' is text.*true or"),
    "unknown copy": (EAGER, "value: matrix", "value: matrx", "copied.value: 'matrx'.*'matrix'"),
    "unknown part": (EAGER, "  expert:", "  experts:", "kernels.experts: is not a known key"),
    "unknown source": (EAGER, "source: hooks}\nsync", "source: hook}\nsync", "'hook'.*'hooks'"),
}
CASES = [(load_hardware, name, case) for name, case in (HARDWARE | FITTED).items()] + [
    (load_software, name, case) for name, case in SOFTWARE.items()
]


@pytest.mark.parametrize(("load", "name", "case"), CASES, ids=[case[1] for case in CASES])
def test_broken_profile(tmp_path: Path, load, name: str, case: tuple[str, str, str, str]) -> None:
    text, old, new, said = case
    assert text.count(old) >= 1, f"{old!r} is not in the shipped profile"
    path = tmp_path / "broken.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load(str(path))
    lines = str(caught.value).splitlines()
    places = [re.fullmatch(rf"{re.escape(str(path))}:(\d+):(\d+): (.*)", line) for line in lines]
    assert all(places), lines
    assert any(re.search(said, match[3]) for match in places if match), lines
    assert len(lines) == 1 or name in {
        "unknown key",
        "unknown dtype",
        "unknown part",
        "GPU missing",
    }


def test_all_mistakes_at_once_in_order(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    text = CARD.replace("8 GiB", "8").replace("272 GB/s", "fast").replace("kind: pcie", "kind: x")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_hardware(str(path))
    assert [problem.path for problem in caught.value.problems] == [
        "datasheet.memory.value",
        "datasheet.memory_bandwidth.value",
        "datasheet.peers.kind",
    ]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1, 2]", b"hello"])
def test_files_that_are_no_profiles(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    for load in (load_hardware, load_software):
        with pytest.raises(InputError) as caught:
            load(str(path))
        assert len(caught.value.problems) == 1
        assert str(caught.value).startswith(f"{path}:1:")
