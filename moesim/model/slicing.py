"""A model as one of several GPUs holds it that share its dense part, or beside a host that runs
some of its layers.
"""

from __future__ import annotations

from dataclasses import replace

from moesim.config.errors import InputError
from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec


def head_counts(model: ModelSpec) -> set[int]:
    """The numbers of heads of its attention blocks, which a split has to divide."""
    blocks = [block for layer in model.layers for block in _blocks(layer)]
    return {block.heads for block in blocks}


def sliced(model: ModelSpec, gpus: int) -> ModelSpec:
    """One of ``gpus`` equal parts of ``model`` (docs/semantics.md): attention, dense networks and
    shared experts are split, all else is whole. ``gpus`` divides all ``head_counts``.
    """
    if gpus == 1:
        return model
    return replace(model, layers=tuple(_layer(layer, gpus) for layer in model.layers))


def with_host_layers(model: ModelSpec, number: int) -> ModelSpec:
    """``model`` whose first ``number`` layers the host runs; InputError where it has fewer."""
    if number > len(model.layers):
        what = f"{number} are more than the {len(model.layers)} layers of {model.name}"
        raise InputError(f"host_layers: {what}")
    first = tuple(replace(layer, on_host=True) for layer in model.layers[:number])
    return replace(model, layers=first + model.layers[number:]) if number else model


def _layer(layer: LayerSpec, gpus: int) -> LayerSpec:
    moe = layer.moe
    if moe is not None and moe.shared is not None:
        moe = replace(moe, shared=_network(moe.shared, gpus))
    cross = layer.cross_attention
    return replace(
        layer,
        attention=_attention(layer.attention, gpus),
        cross_attention=None if cross is None else _attention(cross, gpus),
        dense=None if layer.dense is None else _network(layer.dense, gpus),
        moe=moe,
    )


def _attention(block: AttentionSpec, gpus: int) -> AttentionSpec:
    elements = block.kv_heads * (block.query_key_head_size + block.value_head_size)
    cached, kv_heads = block.kv_bytes_per_token, -(-block.kv_heads // gpus)
    if block.state_bytes:
        cached = -(-cached // gpus)
    elif elements and cached % elements == 0:  # else the latent that all heads read
        cached = cached // block.kv_heads * kv_heads
    return replace(
        block,
        heads=block.heads // gpus,
        kv_heads=kv_heads,
        parameters=-(-block.parameters // gpus),
        bytes=-(-block.bytes // gpus),
        kv_bytes_per_token=cached,
        state_bytes=-(-block.state_bytes // gpus),
    )


def _network(network: FfnSpec, gpus: int) -> FfnSpec:
    return replace(
        network,
        intermediate_size=-(-network.intermediate_size // gpus),
        parameters=-(-network.parameters // gpus),
        bytes=-(-network.bytes // gpus),
    )


def _blocks(layer: LayerSpec) -> list[AttentionSpec]:
    return [block for block in (layer.attention, layer.cross_attention) if block is not None]
