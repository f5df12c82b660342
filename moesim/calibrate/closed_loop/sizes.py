"""The sizes of the decoder that runs for real, taken from the model that moesim prices."""

from __future__ import annotations

import os
from dataclasses import dataclass

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError
from moesim.model.spec import ModelSpec

DTYPES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Formats of weights that the decoder has, and their bytes."""

SHARE = 0.8
"""Of the host's memory, what the experts may take."""


@dataclass(frozen=True)
class Sizes:
    """Sizes in elements; ``dtype`` of weights and activations."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head: int
    experts: int
    top_k: int
    inter: int
    vocabulary: int
    dtype: str

    @property
    def query(self) -> int:
        """The width of all query heads."""
        return self.heads * self.head

    @property
    def key_value(self) -> int:
        """The width of all key heads, and of all value heads."""
        return self.kv_heads * self.head

    @property
    def expert_elements(self) -> int:
        """Weights of an expert: gate, up and down."""
        return 3 * self.hidden * self.inter

    @property
    def store_bytes(self) -> int:
        """Bytes of the experts of all layers."""
        return self.layers * self.experts * self.expert_elements * DTYPES[self.dtype]


def sizes_of(model: ModelSpec) -> Sizes:
    """The sizes of ``model``; InputError where the closed loop's decoder has no such parts."""
    layer = model.layers[0]
    moe, attention = layer.moe, layer.attention
    plain = all(
        other.moe == moe and other.attention == attention and other.cross_attention is None
        for other in model.layers
    )
    if moe is None or not plain:
        raise _unlike(model, "layers that differ, are dense or cross-attend")
    if moe.shared is not None or not moe.expert.gated:
        raise _unlike(model, "shared experts, or experts of two matrices")
    if attention.query_key_head_size != attention.value_head_size or attention.window:
        raise _unlike(model, "latent attention, or a sliding window")
    if moe.expert.dtype not in DTYPES:
        raise _unlike(model, f"weights in {moe.expert.dtype}")
    return Sizes(
        layers=len(model.layers),
        hidden=model.hidden_size,
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        head=attention.value_head_size,
        experts=moe.experts,
        top_k=moe.top_k,
        inter=moe.expert.intermediate_size,
        vocabulary=model.vocab_size,
        dtype=moe.expert.dtype,
    )


def check_memory(sizes: Sizes, device: str) -> None:
    """InputError where the experts do not fit: once on the host, and once in slots."""
    copies = 2 if device == "cpu" else 1
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if (need := copies * sizes.store_bytes) > SHARE * have:
        raise InputError(
            f"--model: its experts take {need / GIB:.1f} GiB, more than {SHARE:.0%} of the host's"
            f" {have / GIB:.1f} GiB; name a smaller model"
        )


def _unlike(model: ModelSpec, parts: str) -> InputError:
    return InputError(
        f"--model '{model.name}' has {parts}; the closed loop runs decoders of equal layers with "
        "full attention and gated routed experts in fp32, bf16 or fp16, as Mixtral and OLMoE have"
    )
