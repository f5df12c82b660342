"""Types of GGUF tensors: weights in a block, and its bytes.

From ``GGML_QUANT_SIZES`` and ``GGMLQuantizationType`` of gguf-py 0.19.0 (llama.cpp, MIT); types
that were removed are those of files before 2025, q2_0 is of ggml-common.h of 2026 (MIT). From 133
on those of ik_llama.cpp (``ggml_row_size`` of ik-llama-cpp-python 0.1.5, MIT); ``_r4`` has four
rows interleaved, as many bytes; some have a scale of each row before its blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from moesim.model.formats import WeightFormat


@dataclass(frozen=True)
class BlockFormat(WeightFormat):
    """Blocks of ``weights`` neighbouring inputs, ``block_bytes`` each, scales included, after
    ``row_bytes`` of each row.
    """

    name: str
    weights: int
    block_bytes: int
    row_bytes: int = 0

    @property
    def inputs_block(self) -> int:
        """See WeightFormat."""
        return self.weights

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """See WeightFormat; the last block of a row may be partly filled."""
        return outputs * (-(-inputs // self.weights) * self.block_bytes + self.row_bytes)


_TABLE: tuple[tuple[int, str, int, int] | tuple[int, str, int, int, int], ...] = (
    (0, "f32", 1, 4), (1, "f16", 1, 2), (2, "q4_0", 32, 18), (3, "q4_1", 32, 20),
    (6, "q5_0", 32, 22), (7, "q5_1", 32, 24), (8, "q8_0", 32, 34), (9, "q8_1", 32, 40),
    (10, "q2_k", 256, 84), (11, "q3_k", 256, 110), (12, "q4_k", 256, 144), (13, "q5_k", 256, 176),
    (14, "q6_k", 256, 210), (15, "q8_k", 256, 292), (16, "iq2_xxs", 256, 66),
    (17, "iq2_xs", 256, 74), (18, "iq3_xxs", 256, 98), (19, "iq1_s", 256, 50),
    (20, "iq4_nl", 32, 18), (21, "iq3_s", 256, 110), (22, "iq2_s", 256, 82),
    (23, "iq4_xs", 256, 136), (24, "i8", 1, 1), (25, "i16", 1, 2), (26, "i32", 1, 4),
    (27, "i64", 1, 8), (28, "f64", 1, 8), (29, "iq1_m", 256, 56), (30, "bf16", 1, 2),
    (31, "q4_0_4_4", 32, 18), (32, "q4_0_4_8", 32, 18), (33, "q4_0_8_8", 32, 18),
    (34, "tq1_0", 256, 54), (35, "tq2_0", 256, 66), (36, "iq4_nl_4_4", 32, 18),
    (37, "iq4_nl_4_8", 32, 18), (38, "iq4_nl_8_8", 32, 18), (39, "mxfp4", 32, 17),
    (40, "nvfp4", 64, 36), (41, "q1_0", 128, 18), (42, "q2_0", 64, 18),
    (133, "q6_0", 32, 26), (134, "iq1_bn", 64, 13, 2), (135, "iq2_bn", 64, 16, 4),
    (137, "iq2_k", 256, 76), (138, "iq3_k", 256, 110), (139, "iq4_k", 256, 144),
    (140, "iq5_k", 256, 176), (141, "iq6_k", 256, 212), (144, "iq4_ks", 256, 136, 4),
    (145, "iq2_ks", 256, 70, 2), (146, "iq4_kss", 256, 128, 4), (152, "iq5_ks", 256, 168, 4),
    (153, "iq2_kt", 256, 68, 4), (154, "iq3_kt", 256, 100, 4), (155, "iq4_kt", 256, 128, 4),
    (156, "iq3_ks", 256, 102, 2), (157, "iq2_kl", 256, 86, 2), (158, "iq1_kt", 256, 56, 4),
    (202, "q4_0_r8", 32, 18), (206, "q5_0_r4", 32, 22), (208, "q8_0_r8", 32, 34),
    (210, "q2_k_r4", 256, 84), (211, "q3_k_r4", 256, 110), (212, "q4_k_r4", 256, 144),
    (213, "q5_k_r4", 256, 176), (214, "q6_k_r4", 256, 210), (216, "iq2_xxs_r4", 256, 66),
    (217, "iq2_xs_r4", 256, 74), (218, "iq3_xxs_r4", 256, 98), (219, "iq1_s_r4", 32, 6, 2),
    (220, "iq4_nl_r4", 32, 18), (221, "iq3_s_r4", 256, 110), (222, "iq2_s_r4", 256, 82),
    (223, "iq4_xs_r8", 256, 136), (229, "iq1_m_r4", 32, 7, 2), (230, "bf16_r16", 1, 2),
    (233, "q6_0_r4", 32, 26), (335, "iq2_bn_r4", 64, 16, 4), (337, "iq2_k_r4", 256, 76),
    (338, "iq3_k_r4", 256, 110), (339, "iq4_k_r4", 256, 144), (340, "iq5_k_r4", 256, 176),
    (344, "iq4_ks_r4", 256, 136, 4), (352, "iq5_ks_r4", 256, 168, 4),
)  # fmt: skip

_PLAIN: Mapping[str, str] = {"f32": "fp32", "f16": "fp16"}
"""Names that these types have elsewhere, as in fits."""
BY_NUMBER: Mapping[int, BlockFormat] = {
    number: BlockFormat(_PLAIN.get(name, name), *sizes) for number, name, *sizes in _TABLE
}
BY_NAME: Mapping[str, BlockFormat] = {name: BY_NUMBER[number] for number, name, *_ in _TABLE}
PACKED = tuple(one.name for one in BY_NUMBER.values() if one.weights > 1)
"""Types whose weights are unpacked before they are multiplied."""
