"""Whose kernels price a run: the software's own first, of the model at hand before another's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.hardware import CostModel, HardwareProfile, load_hardware, load_software
from moesim.hardware.engine_fits import with_engine
from moesim.hardware.operations.experts.calibrated import (
    fits_for,
    nearest,
    shapes_of,
    start_for,
)
from moesim.hardware.operations.experts.error import price_error
from moesim.hardware.operations.experts.fit_numbers import families_of
from moesim.hardware.operations.experts.tiles import tiles_of
from moesim.hardware.prices.calibrated import CollectiveFit, ExpertFit
from moesim.model import ModelSpec, load_model
from moesim.model.slicing import with_sliced_experts
from moesim.model.spec import MoeSpec

H100, B200 = load_hardware("h100-sxm"), load_hardware("b200-sxm")
SERVERS = ("h100-sxm", "h200-sxm", "b200-sxm", "b300-sxm", "gb200", "gb300")
PRO_6000 = load_hardware("rtx-pro-6000")
GPT_OSS = load_model("gpt-oss-120b")


def engine(profile: HardwareProfile, software: str) -> HardwareProfile:
    return with_engine(profile, load_software(software))


def first_all_reduce(profile: HardwareProfile) -> CollectiveFit:
    assert profile.calibrated is not None
    return next(fit for fit in profile.calibrated.collectives if fit.op == "all_reduce")


def moe_of(model: ModelSpec) -> MoeSpec:
    found = model.moe_layers[0].moe
    assert found is not None
    return found


def used(profile: HardwareProfile, moe: MoeSpec) -> ExpertFit:
    fits = fits_for(profile, moe.expert)
    return fits[nearest(fits, shapes_of(moe, np.ones(1, np.int64), alone=False))]


def test_a_backend_that_no_kernel_has_is_told_with_those_that_there_are() -> None:
    software = load_software("vllm-marlin")
    wrong = software.model_copy(update={"moe_backend": "marlinn"})
    with pytest.raises(InputError, match=r"'marlinn' is in no name .* did you mean 'marlin'\?"):
        with_engine(H100, wrong)
    bare = H100.model_copy(update={"calibrated": None})
    assert with_engine(bare, wrong).calibrated is None, "it has no kernels to choose from"


@pytest.mark.parametrize(
    ("software", "kernel"),
    [("ideal", "NCCL"), ("vllm", "vLLM_custom_graph"), ("sglang", "SGLang_CustomAllReduce_graph"),
     ("trtllm", "TRTLLM"), ("vllm-marlin", "vLLM_custom_graph")],
)  # fmt: skip
def test_an_engine_adds_up_with_its_own_kernel(software: str, kernel: str) -> None:
    assert first_all_reduce(engine(H100, software)).kernel == kernel


def test_small_all_reduces_are_far_cheaper_than_nccls() -> None:
    """As the tables have them: 5.3 us of vLLM's beside 18.0 of NCCL's for 16 KiB on 8 H100."""
    sizes = np.array([16_384, 1 << 27])
    (small, large), (own_small, own_large) = (
        CostModel(engine(H100, software), GPT_OSS).all_reduce_ns(8, sizes)
        for software in ("ideal", "vllm")
    )
    assert own_small == pytest.approx(5_310, abs=20)
    assert small == pytest.approx(18_000, rel=0.05)
    assert own_large == pytest.approx(large, rel=0.15)


@pytest.mark.parametrize("software", ["vllm", "sglang", "trtllm"])
def test_all_reduces_never_get_cheaper_with_bytes(software: str) -> None:
    costs = CostModel(engine(H100, software), GPT_OSS)
    sizes = np.unique(np.geomspace(64, 1 << 33, 400).astype(np.int64))
    for gpus in (2, 4, 8):
        assert (np.diff(costs.all_reduce_ns(gpus, sizes)) >= 0).all()


def test_a_slice_of_a_model_has_the_models_kernel() -> None:
    """Of two kernels in mxfp4 the profile names Marlin's first, of another model."""
    fits = fits_for(H100, moe_of(GPT_OSS).expert)
    assert "marlin" in str(fits[0].kernel)
    for gpus in (1, 2, 4, 8):
        fit = used(H100, moe_of(with_sliced_experts(GPT_OSS, gpus)))
        assert "gptoss" in str(fit.kernel)


def test_slices_of_a_node_are_measured_shapes() -> None:
    fit = used(H100, moe_of(GPT_OSS))
    mine = {one.inter for one in fit.ratios if one.experts == 128}
    widths = {moe_of(with_sliced_experts(GPT_OSS, gpus)).expert.intermediate_size
              for gpus in (1, 2, 4, 8)}  # fmt: skip
    assert mine == widths == {2880, 1440, 736, 384}


@pytest.mark.parametrize(
    ("profile", "software", "kernel"),
    [
        (H100, "vllm-marlin", "vllm_compressedtensorsw4a4mxfp4moe_marlin_marlinexperts"),
        (B200, "vllm-mxfp8", "mxfp8"),
        (B200, "vllm", "vllm_gptossmxfp4moe_flashinfer_trtllm_mxfp4_bf16"),
        (H100, "sglang", "sglang_fused_moe_triton"),
        (B200, "sglang", "sglang_flashinfer_trtllm_moe_mxfp8"),
        (PRO_6000, "sglang", "sglang_marlin_moe"),
        (B200, "trtllm", "moe_torch_flow_mxfp8"),
        (PRO_6000, "trtllm", "moe_torch_flow_cutlass_mxfp8"),
        (H100, "trtllm", "vllm_gptossmxfp4moe_triton"),
        (load_hardware("h200-sxm"), "trtllm", "moe_torch_flow"),
    ],
)
def test_the_kernels_that_were_asked_for(
    profile: HardwareProfile, software: str, kernel: str
) -> None:
    assert kernel in str(used(engine(profile, software), moe_of(GPT_OSS)).kernel)


def test_eight_bit_activations_are_as_fast_as_measured() -> None:
    """TensorRT-LLM's table for 96 tokens on a B200: 275.7 us, 1183.9 with 16-bit activations."""
    moe, rows = GPT_OSS.moe_layers[0], [3] * 128
    costs = CostModel(engine(B200, "trtllm"), GPT_OSS)
    assert costs.experts_ns(moe, rows, [0]) == pytest.approx(
        275_700 - 2 * costs.gpu.start_ns, rel=0.02
    )


def test_a_kernel_of_another_framework_is_warned_of() -> None:
    told = [price_error(B200, GPT_OSS, serial=False, framework=name).text
            for name in ("vllm", "sglang")]  # fmt: skip
    assert told[0].startswith("fitted to VLLM")
    assert told[1].startswith("warning: fitted to VLLM")
    assert " in place of one of sglang" in told[1]


@pytest.mark.parametrize("software", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("slices", [1, 2, 4, 8])
def test_the_kernel_that_is_told_is_the_one_that_prices(software: str, slices: int) -> None:
    """SGLang's own table of gpt-oss has no halves of experts on an H100: vLLM's prices them."""
    profile, model = engine(H100, software), with_sliced_experts(GPT_OSS, slices)
    (fit,) = CostModel(profile, model).operations["experts"].fits
    told = price_error(profile, model, serial=False, framework=software).of
    assert f"fitted to {fit.label}" in told
    stands_in = (fit.framework or "").lower() != software
    assert (f"in place of one of {software}" in told) == stands_in


def test_what_a_kernel_takes_that_does_nothing_is_measured_where_it_was() -> None:
    """As vLLM's quantisation of a few rows: between 2 and 4 us on Hopper and Blackwell."""
    found = {name: load_hardware(name).datasheet.kernel_start.value for name in SERVERS}
    assert found["h100-sxm"] == found["h200-sxm"]
    assert all(2000 < value < 4000 for value in found.values())


def test_products_of_blocks_have_the_quantisation_of_their_inputs_inside() -> None:
    """As vLLM's have: both tables timed it with the product."""
    model = load_model("deepseek-v3")
    own, other = (
        CostModel(engine(H100, name), model).operations["dense"].parts(model.layers[0], 64)
        for name in ("sglang", "vllm")
    )
    assert [part.name for part in own] == [part.name for part in other]


def test_scales_of_blocks_and_of_whole_matrices_have_kernels_of_their_own() -> None:
    moe = moe_of(load_model("deepseek-v3"))
    static = replace(moe, expert=replace(moe.expert, block=1, static_input=True))
    assert moe.expert.block > 1
    assert used(H100, moe).block_scaled is True
    assert used(H100, static).block_scaled is False


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("vllm", "vllm_fp8moe_triton_tritonexperts"),
        ("sglang", "sglang_fused_moe_triton"),
        ("trtllm", "moe_torch_flow_cutlass"),
    ],
)
def test_inputs_with_scales_of_their_own_take_no_kernel_of_scales_set_before(
    name: str, kernel: str
) -> None:
    """ModelOpt's, which vLLM alone was measured with, takes four times as long on an H100."""
    fit = used(engine(H100, name), moe_of(load_model("qwen3-30b-a3b@fp8")))
    assert fit.kernel == kernel
    assert fit.block_scaled is (name != "trtllm")


def test_another_models_kernel_is_warned_of() -> None:
    own = price_error(H100, GPT_OSS, serial=False)
    marlin = price_error(engine(H100, "vllm-marlin"), GPT_OSS, serial=False)
    assert own.text.startswith("fitted to VLLM 0.24.0 vllm_gptoss")
    assert marlin.text.startswith("warning: fitted to VLLM")
    assert "1 shape, none of this model: too few shapes" in marlin.text


def test_marlins_tiles_are_the_least_that_rows_fill_to_nine_tenths() -> None:
    average = np.array([0.3, 7.0, 7.5, 14.0, 28.0, 29.0, 43.0, 44.0, 900.0])
    tokens = np.full(len(average), 8)
    tiles = tiles_of("marlin", tokens, tokens, average)
    assert tiles.rows.tolist() == [8, 8, 16, 16, 32, 48, 48, 64, 64]
    assert families_of("vllm_gptossmxfp4moe_marlin_marlinexperts") == ("marlin",)
    assert "marlin" not in families_of("a name that says nothing")


@pytest.mark.parametrize("profile", ["h100-sxm", "h200-sxm", "b200-sxm", "a100-sxm-80gb"])
def test_marlins_formula_meets_what_was_measured(profile: str) -> None:
    """Slices for a node and 1 to 16,384 tokens of Kimi's experts, without the measured ratios."""
    calibrated = load_hardware(profile).calibrated
    assert calibrated is not None
    fits = [fit for fit in calibrated.experts if fit.family == "marlin"]
    found = [ratio for fit in fits for one in fit.ratios for ratio in one.ratio]
    assert fits
    assert np.quantile(np.abs(np.log(found)), 0.5) < 0.04
    assert np.quantile(np.abs(np.log(found)), 0.9) < 0.2


def test_marlin_starts_as_it_does_with_as_many_experts() -> None:
    """Beside gpt-oss's 128 experts, 384 in int4 are nearer than 896 in mxfp4."""
    profile, moe = engine(H100, "vllm-marlin"), moe_of(GPT_OSS)
    shapes = shapes_of(moe, np.ones(1, np.int64), alone=False)
    own = used(profile, moe)
    start = start_for(profile, own, shapes)
    (int4,) = {
        fit.start.value
        for fit in fits_for(profile, replace(moe.expert, dtype="int4"))
        if fit.framework == "VLLM"
    }
    assert (own.dtype, start) == ("mxfp4", int4)
    assert start < own.start.value
    triton = used(H100, moe)
    assert start_for(H100, triton, shapes) == triton.start.value


def test_prompts_in_marlins_kernels_take_twice_as_long_as_in_tritons() -> None:
    rows, starts = np.full(128, 256), np.zeros(1, np.int64)
    marlin, triton = (
        CostModel(engine(H100, software), GPT_OSS).experts_ns(GPT_OSS.moe_layers[0], rows, starts)
        for software in ("vllm-marlin", "vllm")
    )
    assert 2 < marlin[0] / triton[0] < 2.6
