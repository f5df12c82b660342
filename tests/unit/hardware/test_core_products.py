"""What a core of the CPU computes in a cycle: by the software's kernels, rows and format."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.hardware import CostModel, load_hardware, load_software
from moesim.hardware.choice import text_of
from moesim.hardware.engine_fits import with_engine
from moesim.hardware.operations.kernels.host_work import CORE_CLOCK_HZ, CORE_RATE
from moesim.model import load_model

CORES, CLOCK = 4, 2e9
HOST = {
    "memory": "64 GiB", "numa_nodes": 1, "memory_bandwidth": "1 TB/s", "cores": CORES,
    "memory_fraction": "100 %", "layer_start": "0 us", "thread_bandwidth": "1 TB/s",
}  # fmt: skip
OLDER = "llama.cpp@b6xxx"
CYCLES = {
    "llama.cpp": {1: 18.9, 8: 13.9, 16: 26.1, 64: 33.8, 256: 35.4, 2000: 35.4},
    "llama.cpp@b6xxx": {1: 18.9, 7: 18.9, 64: 18.9},
    "ik_llama.cpp": {
        1: 23.2, 3: 3 / (1 / 23.2 + 2 / 7 * (8 / 34.7 - 1 / 23.2)), 8: 34.7, 31: 34.7, 32: 34.7,
        272: 272 / ((32 / 34.7 + 512 / 44.2) / 2), 512: 44.2, 2000: 44.2,
    },
    "ik_llama.cpp@2025-05": {1: 32.1, 8: 47.0, 500: 47.0},
    "ktransformers@0.7": {1: 7.2, 4: 20.3, 500: 24.0},
}  # fmt: skip
"""Of q4_k, by rows: 3 are between 1 and 8, 272 halfway from 32 to 512."""


def per_operation(rows: int, software: str, chosen: str = "q4_k", **host: Any) -> float:
    """Nanoseconds of an expert on the CPU over its operations, times cores, but for its reading,
    a byte in a picosecond.
    """
    model = load_model(f"qwen3-30b-a3b@experts={chosen},attention=q4_k")
    parts = load_hardware(text_of({"gpu": "rtx-3090", "host": {**HOST, **host}}))
    layer = model.moe_layers[0]
    assert layer.moe is not None
    costs = CostModel(with_engine(parts, load_software(software)), model)
    (price,) = costs.cpu_expert_ns(layer, [rows])
    expert = layer.moe.expert
    computed = sqrt(float(price) ** 2 - (expert.bytes / 1000) ** 2)
    return computed * CORES / (2.0 * expert.parameters * rows)


@pytest.mark.parametrize("software", CYCLES)
def test_a_cycle_s_operations_are_those_of_the_rows_and_the_format(software: str) -> None:
    for rows, cycle in CYCLES[software].items():
        found = per_operation(rows, software, core_clock="2 GHz")
        assert found == pytest.approx(1e9 / (cycle * CLOCK), rel=1e-4), rows


def test_unpacked_weights_gain_slowly_beyond_32_rows() -> None:
    """q3_k: "up to about 1.9X at 256 tokens", ik_llama.cpp's pull request 531, and nothing at 32;
    a clock that no reading of weights hides.
    """
    taken = {n: per_operation(n, "ik_llama.cpp", "q3_k", core_clock="2 GHz") for n in (8, 32, 256)}
    assert taken[32] == pytest.approx(taken[8], rel=1e-4)
    assert 1.7 < taken[8] / taken[256] < 1.95


def test_a_host_without_a_clock_has_the_prior_and_one_with_a_rate_that_rate() -> None:
    assert per_operation(64, OLDER) == pytest.approx(1e9 / (18.9 * CORE_CLOCK_HZ), rel=1e-4)
    given = per_operation(64, OLDER, core_rate="3 GFLOP/s", core_clock="2 GHz")
    assert given == pytest.approx(1 / 3, rel=1e-4)


def test_versions_whose_kernels_are_the_same_have_the_same_numbers() -> None:
    """A profile's own table stands for all of its base's, so that these are written in both."""
    today, older = (load_software(name).core_products for name in ("llama.cpp", OLDER))
    assert older == {1: today[1]}
    served, local = (
        load_software(f"ktransformers@{version}").core_products for version in ("0.7", "0.2")
    )
    for rows, formats in local.items():
        assert formats.items() <= served[rows].items()


def test_without_a_gpu_four_formats_are_interleaved_and_the_others_as_beside_one() -> None:
    alone, beside = (load_software(name).core_products for name in ("llama.cpp-cpu", "llama.cpp"))
    four = {"q4_0", "q4_k", "iq4_nl", "mxfp4"}
    for rows, formats in beside.items():
        others = {name: value for name, value in formats.items() if name not in four}
        assert others.items() <= alone[rows].items()
        assert set(alone[rows]) == (set(formats) if rows == 1 else set(others))
    assert all(alone[1][name] > beside[1][name] for name in four)


@pytest.mark.parametrize(("software", "chosen"), [("ideal", "q4_k"), ("llama.cpp", "q2_0")])
def test_formats_and_software_that_nobody_measured_have_the_prior(
    software: str, chosen: str
) -> None:
    found = per_operation(64, software, chosen, core_clock="5 GHz")
    assert found == pytest.approx(1e9 / CORE_RATE, rel=1e-4)


@pytest.mark.parametrize(
    ("software", "share"),
    [("ik_llama.cpp", 0.65), ("llama.cpp", 0.78), ("ktransformers@0.7", 1.0)],
)
def test_a_core_without_avx512_does_what_the_software_says(software: str, share: float) -> None:
    """What ktransformers does with AVX-512 nobody measured."""
    wide, narrow = (
        per_operation(64, software, core_clock="2 GHz", **more)
        for more in ({"vectors": "avx512"}, {"vectors": "avx2"})
    )
    assert wide == per_operation(64, software, core_clock="2 GHz")
    assert narrow == pytest.approx(wide / share, rel=1e-4)


@pytest.mark.parametrize(("name", "faster"), [("iq4_k", 23.1 / 17.2), ("iq4_xs", 29.2 / 21.0)])
def test_interleaved_rows_have_kernels_of_their_own(name: str, faster: float) -> None:
    rows = "iq4_xs_r8" if name == "iq4_xs" else f"{name}_r4"
    plain, four = (per_operation(1, "ik_llama.cpp", one) for one in (name, rows))
    assert plain / four == pytest.approx(faster, rel=1e-3)


def test_interleaved_rows_that_nobody_measured_have_those_of_the_format() -> None:
    plain, rows = (per_operation(1, "llama.cpp", name) for name in ("iq4_xs", "iq4_xs_r8"))
    assert rows == plain


@pytest.mark.parametrize(
    ("products", "what"),
    [
        ("{0: {q4_k: 1}}", "value.0: '0' is too small; 1 or more"),
        ("{1: {q4_k: 0}}", "value.1.q4_k: 0 is too small"),
        ("{1: {q4_kk: 1}}", "q4_kk: 'q4_kk' is no format of weights; .* did you mean 'q4_k'"),
        ("{one: {q4_k: 1}}", "value.one: 'one' is text; a whole number is expected"),
        ("8", "8 is a number; keys with values are expected"),
    ],
)
def test_what_is_no_table_gets_an_error_with_its_place(
    tmp_path: Path, products: str, what: str
) -> None:
    text = "title: mine\nbase: llama.cpp\nsources: {my: measured}\n"
    path = tmp_path / "mine.yaml"
    path.write_text(text + f"core_products: {{value: {products}, source: my}}\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"mine\.yaml:4:.*core_products.*{what}"):
        load_software(str(path))
