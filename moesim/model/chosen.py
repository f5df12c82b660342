"""Formats that a user chooses in place of a model's own: one for all, or one for each class, and
one for its KV cache.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ConfigDict

from moesim.config.errors import InputError, nearest
from moesim.model.formats import (
    FP32,
    PLAIN,
    BlockFp8,
    Mxfp4,
    Nvfp4,
    PackedInteger,
    Plain,
    TensorFp8,
    WeightFormat,
)
from moesim.model.gguf import recipes
from moesim.model.gguf.recipes import RECIPES, SAME, Shape, type_of
from moesim.model.gguf.types import BY_NAME, PACKED
from moesim.model.quantization import EMBEDDING, EXPERTS, HEAD, QuantizationConfig
from moesim.model.spec import AttentionSpec, ModelSpec

SEPARATOR = "@"
DOWN = "down"
"""The experts' down projections, where they have a format of their own."""
CLASSES = ("experts", "shared", "attention", "dense", "embedding", "head", DOWN)
FORMATS: Mapping[str, WeightFormat] = {
    **BY_NAME,
    "bf16": PLAIN["bfloat16"], "fp16": PLAIN["float16"], "fp32": FP32,
    "fp8": TensorFp8(static_input=False), "fp8_static": TensorFp8(static_input=True),
    "fp8_block": BlockFp8((128, 128)), "nvfp4": Nvfp4(), "mxfp4": Mxfp4(),
    "int8": PackedInteger(8, 128),
    **{f"int{bits}": PackedInteger(bits, 128) for bits in (2, 3, 4)},
    **{
        f"int{bits}_g{size}": PackedInteger(bits, size)
        for bits in (2, 3, 4, 8)
        for size in (32, 64, 128)
    },
}  # fmt: skip
"""Formats of one class of tensors, by name."""
KV_CACHE = "kv_cache"
"""What stands for keys and values (or a latent) among the classes."""
GGML_CACHES = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
"""Those that llama.cpp's -ctk and -ctv have: blocks of 32 elements with their scales."""
CACHES: Mapping[str, float] = {
    "fp8": 1.0,
    **{name: BY_NAME[name].block_bytes / BY_NAME[name].weights for name in GGML_CACHES},
}
"""Formats of a KV cache that is not the activations', and the bytes of an element."""
_LAYER = re.compile(r"\.(?:layers|h|block)\.(\d+)\.")
_KINDS: Mapping[str, str] = {
    "o_proj": recipes.ATTENTION_OUTPUT, "q_proj": recipes.QUERIES, "k_proj": recipes.KEYS,
    "v_proj": recipes.VALUES, "qkv_proj": recipes.VALUES, "in_proj_qkv": recipes.VALUES,
    "gate_proj": recipes.GATE, "w1": recipes.GATE, "up_proj": recipes.UP, "w3": recipes.UP,
    "down_proj": recipes.DOWN, "w2": recipes.DOWN, HEAD: recipes.OUTPUT,
    EMBEDDING: recipes.EMBEDDING,
}  # fmt: skip
"""Of the last word of a module's name."""


class ByClass(QuantizationConfig):
    """A format for each class of tensors; the others stay plain."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    quant_method: str = "chosen"
    formats: dict[str, WeightFormat]

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing: what is chosen is known."""
        return ()

    def format_of(self, module: str, outputs: int = 0, inputs: int = 0) -> WeightFormat | None:
        """See QuantizationConfig."""
        del outputs, inputs
        kind = class_of(module)
        if kind == "experts" and _kind_of(module) == recipes.DOWN:
            kind = DOWN if DOWN in self.formats else kind
        return self.formats.get(kind)


class Recipe(QuantizationConfig):
    """A mix of ``llama-quantize``; norms, routers and biases are fp32, as its converters leave
    them.
    """

    quant_method: str = "gguf"
    recipe: str
    shape: Shape

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing: what is chosen is known."""
        return ()

    @property
    def small(self) -> Plain:
        """See QuantizationConfig."""
        return FP32

    def format_of(self, module: str, outputs: int = 0, inputs: int = 0) -> WeightFormat:
        """See QuantizationConfig."""
        del outputs
        if self.recipe == "mxfp4_moe" and EXPERTS in module:
            return BY_NAME["mxfp4"]
        found = _LAYER.search(f".{module}.")
        layer = int(found[1]) if found else 0
        return type_of(self.recipe, _kind_of(module), layer, inputs, self.shape)


def _kind_of(module: str) -> str:
    return _KINDS.get(module.rpartition(".")[2], recipes.REST)


def class_of(module: str) -> str:
    """The class in CLASSES of a matrix, by its full dotted name; down projections are experts."""
    if module in (HEAD, EMBEDDING):
        return "head" if module == HEAD else "embedding"
    if EXPERTS in module:
        return "experts"
    if "shared" in module:
        return "shared"
    networks = (".mlp", ".ffn", ".block_sparse_moe", "DenseReluDense")
    return "dense" if any(word in module for word in networks) else "attention"


AS_EXPERTS = "ffn-experts:"
"""Before the name of a dense model whose networks are one expert a layer."""


def split_format(name: str) -> tuple[str, str | None]:
    """A model's name without its format, and the format: ``base@format``."""
    base, separator, chosen = name.rpartition(SEPARATOR)
    return (base, chosen) if separator and base and "/" not in chosen else (name, None)


def split_cache(chosen: str) -> tuple[str | None, str | None]:
    """A choice of formats without that of the KV cache, and the cache's; None where it has none."""
    words = [word.strip() for word in chosen.split(",")]
    caches = [word for word in words if word.partition("=")[0].strip().lower() == KV_CACHE]
    weights = ",".join(word for word in words if word not in caches)
    return weights or None, caches[-1].partition("=")[2].strip().lower() if caches else None


def cache_of(name: str) -> str | None:
    """The format that a model's name has for its KV cache; None where it has none."""
    chosen = split_format(name)[1]
    return split_cache(chosen)[1] if chosen else None


def with_experts_in(name: str, chosen: str | None) -> str:
    """The name of a model with its experts in another format, or in its own (None)."""
    if chosen is None:
        return name
    base, own = split_format(name)
    cache = split_cache(own)[1] if own else None
    kept = f",{KV_CACHE}={cache}" if cache else ""
    return f"{base}{SEPARATOR}experts={chosen}{kept}"


def with_cache_in(name: str, dtype: str) -> str:
    """The name of a model with its KV cache in another format."""
    base, own = split_format(name)
    kept = f"{own}," if own else ""
    return f"{base}{SEPARATOR}{kept}{KV_CACHE}={dtype}"


def text_of(value: Mapping[str, Any]) -> str:
    """``{base: ..., format: ..., ffn: experts}`` as one name. ValueError where it is something
    else.
    """
    others = sorted(str(key) for key in value if key not in ("base", "format", "ffn"))
    base, chosen, ffn = (value.get(key) for key in ("base", "format", "ffn"))
    if others or not isinstance(base, str) or not base or not (chosen or ffn):
        raise ValueError("a model with another format has the keys base and format, and no other")
    if ffn not in (None, "experts"):
        raise ValueError(f"ffn: {ffn} is not known; write ffn: experts, or leave it out")
    if isinstance(chosen, Mapping):
        chosen = ",".join(f"{key}={entry}" for key, entry in chosen.items())
    name = f"{AS_EXPERTS}{base}" if ffn else base
    return f"{name}{SEPARATOR}{chosen}" if chosen else name


def chosen_formats(text: str, base: ModelSpec) -> QuantizationConfig:
    """The formats that ``text`` names, for a model of the shape of ``base``.

    InputError for a class or a format that is unknown.
    """
    word = text.strip().lower().replace("-", "_")
    if "=" in word:
        return ByClass(formats=dict(_pair(part) for part in word.split(",")))
    if word in SAME or word in RECIPES:
        return Recipe(recipe=SAME.get(word, word), shape=_shape(base))
    if word not in FORMATS:
        raise InputError(f"'{text}' is no format; {_instead(word)}")
    networks = ("experts",) if word == "mxfp4" else CLASSES[:4]
    return ByClass(formats=dict.fromkeys(networks, FORMATS[word]))


def _instead(word: str) -> str:
    """What there is in place of this format: of a publisher's own mix what it is called by."""
    plain = word.removeprefix("ud_").removesuffix("_xl")
    if plain == word or plain not in {*SAME, *RECIPES}:
        return nearest(word, {*RECIPES, *FORMATS})
    of = "its publisher's own mix has no rule"
    return f"{of}: name its GGUF file for exact bytes, or write '{SAME.get(plain, plain)}'"


def _pair(text: str) -> tuple[str, WeightFormat]:
    part, _, name = (word.strip() for word in text.partition("="))
    if part not in CLASSES:
        raise InputError(f"'{part}' is no class of tensors; {nearest(part, (*CLASSES, KV_CACHE))}")
    if name not in FORMATS:
        raise InputError(f"'{name}' is no format of one class; {nearest(name, FORMATS)}")
    return part, FORMATS[name]


def _shape(base: ModelSpec) -> Shape:
    blocks = [layer.attention for layer in base.layers if layer.attention.kv_heads]
    experts = max((layer.moe.experts for layer in base.moe_layers if layer.moe), default=1)
    grouped = max((block.heads // block.kv_heads for block in blocks), default=1)
    return Shape(len(base.layers), experts, grouped, base.head_parameters == 0)


def renamed(model: ModelSpec, chosen: str, formats: QuantizationConfig) -> ModelSpec:
    """``model`` in ``formats``, with what was ``chosen`` in its name."""
    layers = model.layers
    if (dtype := _of_attention(formats)) is not None:
        layers = tuple(
            replace(layer, attention=replace(layer.attention, dtype=dtype))
            if layer.attention.heads
            else layer
            for layer in layers
        )
    return replace(model, name=f"{model.name}{SEPARATOR}{chosen}", layers=layers)


def with_cache(model: ModelSpec, dtype: str) -> ModelSpec:
    """``model`` with keys and values, or latents, in another format; an index keeps its own, and so
    do constant states. InputError for a format that is unknown.
    """
    if dtype not in CACHES:
        what = f"'{dtype}' is no format of a KV cache; {nearest(dtype, CACHES)}"
        raise InputError(f"{what}; without {KV_CACHE} it has the activations' format")
    layers = tuple(
        replace(
            layer,
            attention=_cached_in(layer.attention, dtype, model.activation_bytes),
            cross_attention=None
            if layer.cross_attention is None
            else _cached_in(layer.cross_attention, dtype, model.activation_bytes),
        )
        for layer in model.layers
    )
    return replace(model, layers=layers)


def _cached_in(block: AttentionSpec, dtype: str, element_bytes: int) -> AttentionSpec:
    rest = block.kv_bytes_per_token - block.index_bytes_per_token
    if not rest or block.state_bytes:
        return block
    cached = block.index_bytes_per_token + int(rest * CACHES[dtype] / element_bytes)
    return replace(block, kv_bytes_per_token=cached, cache_dtype=dtype)


def _of_attention(formats: QuantizationConfig) -> str | None:
    """The packed type of most of the attention's matrices; None where their width says it."""
    found = formats.format_of("model.layers.0.self_attn.q_proj", 1 << 12, 1 << 12)
    return found.name if found is not None and found.name in PACKED else None
