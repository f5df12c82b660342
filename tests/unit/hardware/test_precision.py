"""In which units a format's products run."""

from __future__ import annotations

import pytest

from moesim.config.errors import InputError
from moesim.hardware import load_hardware
from moesim.hardware.described.precision import dtype_of
from moesim.model import load_model, model_names

TERA = 1e12


@pytest.mark.parametrize(
    ("card", "dtype", "tera"),
    [
        ("h100-sxm", "mxfp4", 989.4),
        ("h100-sxm", "fp8", 1978.9),
        ("a100-sxm-80gb", "fp8", 312),
        ("a100-sxm-80gb", "int4", 312),
        ("a100-sxm-80gb", "int8", 312),
        ("v100-sxm2-32gb", "bf16", 125),
        ("v100-sxm2-32gb", "mxfp4", 125),
        ("v100-sxm2-32gb", "fp32", 15.7),
        ("b200-sxm", "mxfp4", 9000),
        ("b200-sxm", "nvfp4", 9000),
        ("rtx-4060-8gb", "mxfp4", 30.2),
    ],
)
def test_units(card: str, dtype: str, tera: float) -> None:
    assert load_hardware(card).peak(dtype) == tera * TERA


def test_mxfp4_without_a_fit_is_widened() -> None:
    card = load_hardware("b200-sxm")
    assert [card.rate(dtype) / TERA for dtype in ("mxfp4", "nvfp4", "fp8")] == [2250, 9000, 4500]


def test_unknown_format() -> None:
    with pytest.raises(InputError, match=r"'mxfp6'.*did you mean 'mxfp4'"):
        load_hardware("h100-sxm").peak("mxfp6")


def test_every_shipped_model_has_units() -> None:
    card = load_hardware("h100-sxm")
    for name in model_names():
        for layer in load_model(name).moe_layers:
            assert layer.moe is not None
            assert card.peak(layer.moe.expert.dtype) > 0


def test_format_by_size() -> None:
    assert [dtype_of(100, size) for size in (400, 200, 203, 101, 56)] == [
        "fp32",
        "bf16",
        "bf16",
        "fp8",
        "fp8",
    ]


@pytest.mark.parametrize("dtype", ["q4_k", "q6_k", "iq4_xs", "tq2_0", "int5"])
def test_packed_weights_are_multiplied_in_bf16(dtype: str) -> None:
    card = load_hardware("h100-sxm")
    assert card.peak(dtype) == card.peak("bf16")


@pytest.mark.parametrize("name", ["qwen3-30b-a3b@q4_k_m", "qwen3-30b-a3b@attention=q4_k"])
def test_packed_attention_is_no_fp8(name: str) -> None:
    model, card = load_model(name), load_hardware("h100-sxm")
    attention = model.layers[0].attention
    assert attention.dtype == "q4_k"
    assert dtype_of(attention.parameters, attention.bytes) == "fp8"
    assert card.peak("q4_k") < card.peak("fp8")
    assert load_model("qwen3-30b-a3b").layers[0].attention.dtype is None
