"""Which type ``llama-quantize`` gives every tensor: its named mixes, as Q4_K_M.

The rule is ``llama_tensor_get_type`` of llama.cpp's src/llama-quant.cpp (MIT), read in the sources
that llama-cpp-python 0.3.36 ships, without an importance matrix and without Falcon's exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from moesim.model.gguf.types import BY_NAME, BlockFormat

RECIPES: Mapping[str, str] = {
    "f32": "f32", "f16": "f16", "bf16": "bf16", "q4_0": "q4_0", "q4_1": "q4_1", "q5_0": "q5_0",
    "q5_1": "q5_1", "q8_0": "q8_0", "q2_k": "q2_k", "q2_k_s": "q2_k", "q3_k_s": "q3_k",
    "q3_k_m": "q3_k", "q3_k_l": "q3_k", "q4_k_s": "q4_k", "q4_k_m": "q4_k", "q5_k_s": "q5_k",
    "q5_k_m": "q5_k", "q6_k": "q6_k", "iq1_s": "iq1_s", "iq1_m": "iq1_m", "iq2_xxs": "iq2_xxs",
    "iq2_xs": "iq2_xs", "iq2_s": "iq2_xs", "iq2_m": "iq2_s", "iq3_xxs": "iq3_xxs",
    "iq3_xs": "iq3_s", "iq3_s": "iq3_s", "iq3_m": "iq3_s", "iq4_nl": "iq4_nl",
    "iq4_xs": "iq4_xs", "tq1_0": "tq1_0", "tq2_0": "tq2_0", "q1_0": "q1_0", "q2_0": "q2_0",
    "mxfp4_moe": "mxfp4",
}  # fmt: skip
"""A mix and the type that most of its tensors have."""
SAME: Mapping[str, str] = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}
"""Names that ``llama-quantize`` takes for others."""
PLAIN = ("f32", "f16", "bf16")
OUTPUT, EMBEDDING, VALUES, KEYS, QUERIES = "output", "embedding", "values", "keys", "queries"
ATTENTION_OUTPUT, UP, GATE, DOWN, REST = "attention output", "up", "gate", "down", "rest"
_SMALLEST = ("iq2_xxs", "iq2_xs", "iq1_s", "iq2_s", "iq2_m", "iq1_m")
_FALLBACK: Mapping[str, str] = {
    **dict.fromkeys(
        ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"
    ),
    **dict.fromkeys(("q2_k", "q3_k", "tq1_0", "tq2_0", "q2_0"), "q4_0"),
    "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
}  # fmt: skip
_EIGHT, _FOUR = 8, 4


@dataclass(frozen=True)
class Shape:
    """What the rule asks of a model: layers, experts a layer, heads a key-value head, whether the
    head is the embedding.
    """

    layers: int
    experts: int
    grouped: int
    tied: bool


def type_of(recipe: str, kind: str, layer: int, inputs: int, shape: Shape) -> BlockFormat:
    """The type of a matrix of ``kind`` in ``layer`` with rows of ``inputs``."""
    usual = RECIPES[recipe]
    if recipe in PLAIN:
        return BY_NAME[usual]
    chosen = _chosen(recipe, usual, kind, layer, inputs, shape)
    return BY_NAME[_fitting(chosen, inputs)]


def _fitting(name: str, inputs: int) -> str:
    """``name``, or what is taken where rows are no whole blocks of it."""
    if inputs % BY_NAME[name].weights == 0:
        return name
    other = _FALLBACK.get(name, "f16")
    return other if inputs % BY_NAME[other].weights == 0 else "f16"


def _chosen(recipe: str, usual: str, kind: str, layer: int, inputs: int, shape: Shape) -> str:
    if kind == OUTPUT or (shape.tied and kind == EMBEDDING):
        return _output(recipe, usual, inputs)
    if recipe == "mxfp4_moe":
        return "q8_0"  # experts do not come here
    if kind == EMBEDDING:
        return _embedding(recipe, usual)
    if recipe in _SMALLEST:
        return _smallest(recipe, usual, kind, layer, shape)
    rule = {VALUES: _values, DOWN: _down, ATTENTION_OUTPUT: _attention_output}.get(kind)
    if rule is not None:
        return rule(recipe, usual, layer, shape)
    return _other(recipe, usual, kind, layer, shape)


def more_bits(layer: int, layers: int) -> bool:
    """The layers that matter most: the first and last eighth, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2  # noqa: PLR2004


def _output(recipe: str, usual: str, inputs: int) -> str:
    if recipe == "mxfp4_moe" or inputs % BY_NAME[usual].weights or usual == "q8_0":
        return "q8_0"
    return "q5_k" if recipe in (*_SMALLEST, "iq3_xxs") else "q6_k"


def _embedding(recipe: str, usual: str) -> str:
    groups = (
        (("iq2_xxs", "iq2_xs", "iq1_s", "iq1_m"), "q2_k"), (("iq2_s", "iq2_m"), "iq3_s"),
        (("iq3_xxs",), "iq3_s"), (("tq1_0", "tq2_0", "q2_0"), "q4_k"),
    )  # fmt: skip
    return next((name for group, name in groups if recipe in group), usual)


def _smallest(recipe: str, usual: str, kind: str, layer: int, shape: Shape) -> str:
    larger = recipe in ("iq2_s", "iq2_m")
    if kind == VALUES:
        many = shape.grouped >= _FOUR or shape.experts >= _FOUR
        return "q4_k" if many else "iq3_s" if larger else "q2_k"
    if kind == KEYS and shape.experts == _EIGHT:
        return "q4_k"
    if kind == DOWN:
        first = layer < shape.layers // 8
        return ("iq3_s" if larger else "q2_k") if first else usual
    if kind == ATTENTION_OUTPUT:
        if shape.experts == _EIGHT:
            return "q5_k"
        return "iq3_s" if larger else "iq2_xxs" if recipe in ("iq1_s", "iq1_m") else usual
    return usual


def _values(recipe: str, usual: str, layer: int, shape: Shape) -> str:
    if shape.experts == _EIGHT:
        return "q8_0"
    many, more = shape.grouped >= _FOUR, more_bits(layer, shape.layers)
    return {
        "q2_k": "q4_k" if many else "q3_k",
        "q2_k_s": "q4_k" if many else usual,
        "iq3_xxs": "q4_k" if many else "iq3_s",
        "iq3_xs": "q4_k" if many else usual,
        "iq3_s": "q4_k" if many else usual,
        "iq3_m": "q4_k",
        "q3_k_m": "q5_k" if layer < 2 else "q4_k",  # noqa: PLR2004
        "q3_k_l": "q5_k",
        "iq4_nl": "q5_k" if many else usual,
        "iq4_xs": "q5_k" if many else usual,
        "q4_k_m": "q6_k" if more else usual,
        "q5_k_m": "q6_k" if more else usual,
        "q4_k_s": "q5_k" if layer < _FOUR else usual,
    }.get(recipe, usual)


def _down(recipe: str, usual: str, layer: int, shape: Shape) -> str:
    first, more = layer < shape.layers // 8, more_bits(layer, shape.layers)
    return {
        "q2_k": "q3_k",
        "q2_k_s": "q4_k" if first else usual,
        "iq3_xxs": "q4_k" if first else "q3_k",
        "q3_k_m": "q5_k" if layer < shape.layers // 16 else "q4_k",
        "iq3_m": "q4_k" if first or (shape.experts == _EIGHT and more) else usual,
        "q3_k_l": "q5_k",
        "q4_k_m": "q6_k" if more else usual,
        "iq4_nl": "q5_k" if first else usual,
        "iq4_xs": "q5_k" if first else usual,
        "q5_k_m": "q6_k" if more else usual,
        "q4_k_s": "q5_k" if first else usual,
    }.get(recipe, usual)


def _attention_output(recipe: str, usual: str, layer: int, shape: Shape) -> str:
    del layer
    if shape.experts == _EIGHT:
        bumped = ("q2_k", "iq3_xs", "iq3_xxs", "q3_k_s", "q3_k_m", "iq4_nl", "q4_k_s", "q4_k_m",
                  "iq3_s", "iq3_m", "iq4_xs")  # fmt: skip
        return "q5_k" if recipe in bumped else usual
    return {
        "q2_k": "q3_k", "iq3_xxs": "iq3_s", "q3_k_m": "q4_k", "q3_k_l": "q5_k", "iq3_m": "q4_k",
    }.get(recipe, usual)  # fmt: skip


def _other(recipe: str, usual: str, kind: str, layer: int, shape: Shape) -> str:
    if kind == KEYS and shape.experts == _EIGHT:
        return "q8_0"
    if kind in (KEYS, QUERIES):
        return {"iq3_xs": "iq3_xxs", "iq3_xxs": "iq2_s"}.get(recipe, usual)
    middle = shape.layers // 8 <= layer < 7 * shape.layers // 8
    if kind in (UP, GATE) and recipe == "iq3_xs" and middle:
        return "iq3_xxs"
    return usual
