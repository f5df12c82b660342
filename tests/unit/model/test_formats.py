"""Bytes of quantised matrices, counted from the tensors that each format stores."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.model.formats import BlockFp8, GroupedInteger, Mxfp4, Nvfp4, TensorFp8
from moesim.model.quantization import QuantizationConfig

# Mixtral's down projection: 14,336 inputs, 4,096 outputs; (shape, bytes an element) of each tensor
INPUTS, OUTPUTS = 14_336, 4_096
STORED = [
    (
        GroupedInteger(4, 128, packs_inputs=False),  # AWQ: qweight, qzeros, scales
        [((INPUTS, OUTPUTS // 8), 4), ((112, OUTPUTS // 8), 4), ((112, OUTPUTS), 2)],
    ),
    (
        GroupedInteger(4, 128, packs_inputs=True),  # GPTQ: qweight, qzeros, scales, g_idx
        [
            ((INPUTS // 8, OUTPUTS), 4),
            ((112, OUTPUTS // 8), 4),
            ((112, OUTPUTS), 2),
            ((INPUTS,), 4),
        ],
    ),
    (
        GroupedInteger(8, -1, packs_inputs=True),  # one group
        [((INPUTS // 4, OUTPUTS), 4), ((1, OUTPUTS // 4), 4), ((1, OUTPUTS), 2), ((INPUTS,), 4)],
    ),
    (Mxfp4(), [((OUTPUTS, 448, 16), 1), ((OUTPUTS, 448), 1)]),  # blocks, scales
    (Nvfp4(), [((OUTPUTS, INPUTS // 2), 1), ((OUTPUTS, 896), 1), ((2,), 4)]),
    (BlockFp8((128, 128)), [((OUTPUTS, INPUTS), 1), ((32, 112), 4)]),
    (TensorFp8(static_input=True), [((OUTPUTS, INPUTS), 1), ((2,), 4)]),
]


@pytest.mark.parametrize(("number_format", "tensors"), STORED, ids=lambda value: str(value)[:40])
def test_bytes_are_the_tensors_that_are_stored(number_format, tensors) -> None:
    stored = sum(prod(shape) * element for shape, element in tensors)
    assert number_format.matrix_bytes(OUTPUTS, INPUTS) == stored


def test_mxfp4_takes_four_and_a_quarter_bits() -> None:
    assert Mxfp4().matrix_bytes(2880, 2880) * 8 == 4.25 * 2880 * 2880


def test_edge_blocks_have_a_scale_of_their_own() -> None:
    # DeepSeek-V3's kv_a_proj_with_mqa has 576 = 4.5 x 128 outputs
    assert BlockFp8((128, 128)).matrix_bytes(576, 7168) == 576 * 7168 + 5 * 56 * 4


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_fewer_bits_never_take_more_bytes(outputs: int, inputs: int) -> None:
    eight, four = (GroupedInteger(bits, 128, packs_inputs=False) for bits in (8, 4))
    assert four.matrix_bytes(outputs, inputs) <= eight.matrix_bytes(outputs, inputs)


CONVERTED = [
    (None, "model.layers.3.mlp.gate_proj", True),
    (["gate"], "model.layers.3.mlp.gate", False),
    (["gate"], "model.layers.3.mlp.gate_proj", True),
    (["model.layers.*.self_attn"], "model.layers.3.self_attn.q_proj", False),
    (["model.layers.*.self_attn"], "model.layers.3.mlp.experts.0.up_proj", True),
    (["model.layers.1.*"], "model.layers.10.mlp.up_proj", True),
    (["model.layers.1.*"], "model.layers.1.mlp.up_proj", False),
    (["model.layers.10.self_attn*"], "model.layers.10.self_attn.o_proj", False),
    (["*"], "model.layers.10.self_attn.o_proj", False),
]


@pytest.mark.parametrize(("kept", "module", "expected"), CONVERTED)
def test_modules_named_in_the_configuration_stay_plain(kept, module, expected) -> None:
    config = QuantizationConfig(quant_method="fp8", modules_to_not_convert=kept)
    assert config.converts(module) is expected
