"""The tensors that a model's weights are, as software allocates them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec

Tensors = tuple[tuple[int, int], ...]
"""Bytes of a tensor, and how many such tensors come one after the other."""


def tensors_of(model: ModelSpec, experts: Sequence[int]) -> Tensors:
    """The weights on a GPU that holds so many ``experts`` of each MoE layer, in the order of the
    layers, between the embedding and the head; without layers that the host keeps. Attention is
    divided into its four matrices by the sizes of heads; norms and biases are left out.
    """
    held = dict(zip((layer.index for layer in model.moe_layers), experts, strict=True))
    layers = (one for one in model.layers if not (one.on_host or one.link_bytes))
    every = chain(
        [(model.embedding_bytes, 1)],
        *(_of_layer(layer, held.get(layer.index, 0)) for layer in layers),
        [(model.head_bytes, 1), (model.other_bytes, 1)],
    )
    return tuple((size, count) for size, count in every if size and count)


def of_network(network: FfnSpec, copies: int = 1) -> Iterator[tuple[int, int]]:
    """Two or three matrices of each of ``copies``."""
    matrices = 3 if network.gated else 2
    weights = matrices * network.hidden_size * network.intermediate_size
    yield network.bytes * weights // max(network.parameters, weights) // matrices, matrices * copies


def _of_layer(layer: LayerSpec, experts: int) -> Iterator[tuple[int, int]]:
    for block in (layer.attention, layer.cross_attention):
        if block is not None:
            yield from _of_attention(block)
    if layer.dense is not None:
        yield from of_network(layer.dense)
    if layer.moe is not None:
        yield layer.moe.router_bytes, 1
        if layer.moe.shared is not None:
            yield from of_network(layer.moe.shared)
        yield from of_network(layer.moe.expert, experts)


def _of_attention(block: AttentionSpec) -> Iterator[tuple[int, int]]:
    """Queries, keys, values and the output."""
    keys, values = block.query_key_head_size, block.value_head_size
    widths = (
        block.heads * keys, block.kv_heads * keys, block.kv_heads * values, block.heads * values
    )  # fmt: skip
    for width in widths:
        yield block.bytes * width // max(sum(widths), 1), 1
