"""A dense model whose networks are one expert a layer, which every token takes."""

from __future__ import annotations

from dataclasses import replace

from moesim.config.errors import InputError
from moesim.model.chosen import AS_EXPERTS, SEPARATOR, split_format
from moesim.model.spec import LayerSpec, ModelSpec, MoeSpec


def in_dense_words(name: str) -> str:
    """The ``name`` of the dense model, whose networks have the format that is asked for experts."""
    base, chosen = split_format(name)
    if chosen is None:
        return name
    own = "dense=mxfp4" if chosen.strip().lower() == "mxfp4" else chosen
    return f"{base}{SEPARATOR}{own.replace('experts=', 'dense=')}"


def networks_as_experts(model: ModelSpec) -> ModelSpec:
    """``model`` with each dense network as one expert. Its layers cost what they did: where there
    is nothing to choose there is no gate. InputError where it has experts.
    """
    if model.moe_layers:
        raise InputError(f"{model.name} has experts of its own; leave 'ffn' out")
    name = f"{AS_EXPERTS}{model.name}"
    return replace(model, name=name, layers=tuple(map(_as_expert, model.layers)))


def _as_expert(layer: LayerSpec) -> LayerSpec:
    if layer.dense is None:
        return layer
    moe = MoeSpec(1, 1, layer.dense, shared=None, router_parameters=0, router_bytes=0)
    return replace(layer, dense=None, moe=moe)
