"""A model as one of several GPUs holds it that share its dense part or slice its experts, or beside
a host that runs or keeps some of its layers.
"""

from __future__ import annotations

from dataclasses import replace

from moesim.config.errors import InputError
from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec

PADDED = "mxfp4"


def head_counts(model: ModelSpec) -> set[int]:
    """The numbers of heads of its attention blocks, which a split has to divide."""
    blocks = [block for layer in model.layers for block in _blocks(layer)]
    return {block.heads for block in blocks}


def sliced(model: ModelSpec, gpus: int) -> ModelSpec:
    """One of ``gpus`` equal parts of ``model`` (docs/semantics.md): attention, dense networks,
    shared experts, embedding and head are split, all else is whole. ``gpus`` divides all
    ``head_counts``.
    """
    if gpus == 1:
        return model
    ends = ("embedding_parameters", "embedding_bytes", "head_parameters", "head_bytes")
    parts = {name: -(-getattr(model, name) // gpus) for name in ends}
    layers = tuple(_layer(layer, gpus) for layer in model.layers)
    return replace(model, layers=layers, vocab_parts=gpus, **parts)


def unsliced_experts(model: ModelSpec, gpus: int) -> str | None:
    """Why ``gpus`` cannot each hold an equal part of every expert of ``model``, or None.

    A part has whole blocks of channels that share a scale: engines refuse others, as vLLM does, but
    for mxfp4, whose last parts it fills up.
    """
    for expert in {layer.moe.expert for layer in model.moe_layers if layer.moe}:
        width, block = expert.intermediate_size, expert.block
        if expert.dtype == PADDED or width % (gpus * block) == 0:
            continue
        parts = (n for n in range(1, gpus) if gpus % n == 0)  # as heads are divided too
        most = max(n for n in parts if width % (n * block) == 0 or n == 1)
        blocks = f" in blocks of {block} ({expert.dtype})" if block > 1 else ""
        what = f"{gpus} GPUs cannot share the {width} inner channels of an expert of {model.name}"
        return f"{what}{blocks} evenly; {most} can"
    return None


def with_sliced_experts(model: ModelSpec, gpus: int) -> ModelSpec:
    """``model`` with experts of which each of ``gpus`` holds a part, in whole blocks; raises
    InputError where they have none that are equal.
    """
    if gpus == 1:
        return model
    if (what := unsliced_experts(model, gpus)) is not None:
        raise InputError(f"parallelism.experts: {what}")
    return replace(model, layers=tuple(_with_part(layer, gpus) for layer in model.layers))


def _with_part(layer: LayerSpec, gpus: int) -> LayerSpec:
    if layer.moe is None:
        return layer
    return replace(layer, moe=replace(layer.moe, expert=_part(layer.moe.expert, gpus)))


def _part(expert: FfnSpec, gpus: int) -> FfnSpec:
    """What a part has goes by its channels, rounded up."""
    whole, block = expert.intermediate_size, expert.block
    width = -(-whole // (gpus * block)) * block
    return replace(
        expert,
        intermediate_size=width,
        parameters=-(-expert.parameters * width // whole),
        bytes=-(-expert.bytes * width // whole),
    )


def with_host_layers(model: ModelSpec, number: int) -> ModelSpec:
    """``model`` whose first ``number`` layers the host runs; InputError where it has fewer."""
    if number > len(model.layers):
        what = f"{number} are more than the {len(model.layers)} layers of {model.name}"
        raise InputError(f"host_layers: {what}")
    first = tuple(replace(layer, on_host=True) for layer in model.layers[:number])
    return replace(model, layers=first + model.layers[number:]) if number else model


def with_offloaded_layers(model: ModelSpec, number: int, *, zero_copy: bool) -> ModelSpec:
    """``model`` whose first ``number`` layers are copied to the GPU in every pass, or read
    there by its kernels (``zero_copy``); InputError where it has fewer.
    """
    if number > len(model.layers):
        what = f"{number} are more than the {len(model.layers)} layers of {model.name}"
        raise InputError(f"offload_layers: {what}")
    first = tuple(
        replace(layer, copied=not zero_copy, zero_copy=zero_copy) for layer in model.layers[:number]
    )
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
