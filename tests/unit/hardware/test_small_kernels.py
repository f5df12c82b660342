"""Starts of kernels by the software's counts and the GPU's clock, and latents by the software."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.hardware import CostModel, load_hardware
from moesim.hardware.engine_fits import with_engine
from moesim.hardware.load import load_software
from moesim.hardware.prices.provenance import Source
from moesim.model import load_model

LLAMA = load_software("llama.cpp")


@pytest.mark.parametrize(
    ("name", "boost_ghz"),
    [
        ("rtx-3090", 1.695),
        ("rtx-4090", 2.52),
        ("rtx-5090", 2.407),
        ("a100-sxm-80gb", 1.41),
        ("t4", 1.59),
        ("rx-6900-xt", 2.25),
        ("rx-7900-xtx", 2.5),
        ("l4", 2.04),
    ],
)
def test_the_clock_is_that_of_the_datasheet(name: str, boost_ghz: float) -> None:
    assert load_hardware(name).datasheet.clock_hz == pytest.approx(boost_ghz * 1e9, rel=0.006)


def test_the_same_kernels_take_longer_at_a_lower_clock() -> None:
    """By hand: 15 kernels of attention, of which none is fitted, at 5,900 cycles."""
    model = load_model("qwen3-30b-a3b@q4_k_m")
    taken = {}
    for name in ("rtx-3090", "rtx-4090"):
        card = load_hardware(name)
        costs = CostModel(with_engine(card, LLAMA), model)
        starts = costs.gpu.starts(costs.gpu.kernels("attention", 6)).time_ns
        assert starts == pytest.approx(15 * 5900 / card.datasheet.clock_hz * 1e9)
        taken[name] = costs.attention_ns(model.layers[0], 1, 1, 1) - starts
    bytes_over_rate = 936 / 1008
    assert taken["rtx-3090"] * bytes_over_rate == pytest.approx(taken["rtx-4090"], rel=1e-3)


@pytest.mark.parametrize(("software", "more"), [("llama.cpp", 24 - 15), ("ik_llama.cpp", 18 - 14)])
def test_attention_in_a_latent_has_kernels_of_its_own(software: str, more: int) -> None:
    """By as many starts as DeepSeek's has more than Qwen3's it is dearer than if it had those."""
    profile = load_software(software)
    alike = profile.model_copy(
        update={"kernels": profile.kernels.model_copy(update={"latent": None})}
    )
    card, model = load_hardware("rtx-3090"), load_model("deepseek-v3")
    own, as_others = (CostModel(with_engine(card, one), model) for one in (profile, alike))
    price, less = (int(one.attention_ns(model.layers[5], 1, 1, 1)) for one in (own, as_others))
    assert price - less == pytest.approx(more * own.gpu.start_ns, abs=1)


@pytest.mark.parametrize(
    ("machine", "start_us"),
    [
        ("l40s", 2.3),
        ("{gpu: {base: rtx-4090, kernel_start: 7 us}}", 7),
        ("rtx-4090", 5900 / 2521),
        ("{gpu: rtx-3090, host: ddr5-6000-2ch-64gb}", 5900 / 1696),
    ],
)
def test_a_start_that_was_measured_or_given_stands_before_cycles(
    machine: str, start_us: float
) -> None:
    card = with_engine(load_hardware(machine), LLAMA)
    costs = CostModel(card, load_model("qwen3-30b-a3b@q4_k_m"))
    assert costs.gpu.start_ns == pytest.approx(1e3 * start_us, rel=1e-3)
    assert costs.gpu.kernels("attention", 6) == 15


def test_other_software_has_the_starts_of_the_operations() -> None:
    model = load_model("qwen3-30b-a3b")
    costs = CostModel(with_engine(load_hardware("rtx-4090"), load_software("vllm")), model)
    assert costs.gpu.start_ns == 4000
    assert costs.gpu.kernels("attention", 6) == 6


def test_latents_attend_as_wide_as_they_are_cached() -> None:
    """GLM-4.7-Flash on a card without fits, by hand: 20 heads; keys and values of a prompt have 256
    values each, a latent with its rotary part 576.
    """
    model = load_model("glm-4.7-flash")
    layer, card = model.layers[-1], load_hardware("rtx-4090")
    assert layer.attention.query_key_head_size + layer.attention.value_head_size == 512
    keys = 8192 * 8193 // 2
    rate = 165.2e12 * card.datasheet.compute_fraction.value
    times = {}
    for name in ("vllm", "llama.cpp"):
        costs = CostModel(with_engine(card, load_software(name)), model)
        priced = costs.attention_ns(layer, np.array([8192]), np.array([keys]), np.array([8192]))
        starts = costs.gpu.start_ns * costs.gpu.kernels("attention", 6 + 4, layer)
        times[name] = int(priced[0]) - starts
    more = 2 * 20 * keys * (2 * 576 - 512) / rate * 1e9
    assert times["llama.cpp"] - times["vllm"] == pytest.approx(more, rel=1e-3)


def test_latents_of_llama_cpp_have_no_fit_of_another_engines_kernels() -> None:
    """TensorRT-LLM takes 3 ms on an RTX PRO 6000 for 32,768 keys of a layer of DeepSeek-V3."""
    model, card = load_model("deepseek-v3"), load_hardware("rtx-pro-6000")
    shape = (model.layers[-1], 1, 32768, 32768)
    other, own = (
        CostModel(with_engine(card, load_software(name)), model) for name in ("trtllm", "llama.cpp")
    )
    assert int(other.attention_ns(*shape)) > 2_000_000
    assert int(own.attention_ns(*shape)) < 300_000
    assert not any("mla" in (fit.kernel or "") for fit in own.operations["attention"].fits)


def test_packed_experts_of_llama_cpp_have_no_fit_of_another_engine() -> None:
    """mxfp4 has a table on an RTX PRO 6000, which is vLLM's; bf16 stays as it was measured."""
    card = with_engine(load_hardware("rtx-pro-6000"), LLAMA)
    assert card.calibrated is not None
    assert {fit.dtype for fit in card.calibrated.experts} == {"bf16"}
    model = load_model("gpt-oss-120b@mxfp4_moe")
    layer, rows = model.moe_layers[-1], np.full(4, 1)
    assert (
        CostModel(card, model).operations["experts"].sources(layer, rows, [0]) == Source.DATASHEET
    )
    other = with_engine(load_hardware("rtx-pro-6000"), load_software("vllm"))
    sources = CostModel(other, model).operations["experts"].sources(layer, rows, [0])
    assert np.all(sources != Source.DATASHEET)
