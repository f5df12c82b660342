"""A model by other rules of routing: other numbers of choices, and fewer experts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from moesim.model.spec import ModelSpec, MoeSpec


def routed(
    model: ModelSpec, experts: Sequence[int], top_k: int, mean_choices: Sequence[float]
) -> ModelSpec:
    """``model`` with so many ``experts`` in each MoE layer, of which tokens take ``top_k`` at most,
    and ``mean_choices`` on average. A router shrinks with its experts. A layer that no token runs,
    or in which none has a choice left (0), is as if each took ``top_k``.
    """
    numbers = iter(zip(experts, mean_choices, strict=True))
    layers = [
        replace(layer, moe=_mixture(layer.moe, top_k, *next(numbers))) if layer.moe else layer
        for layer in model.layers
    ]
    return replace(model, layers=tuple(layers))


def _mixture(moe: MoeSpec, top_k: int, experts: int, mean_choices: float) -> MoeSpec:
    return replace(
        moe,
        experts=experts,
        top_k=min(top_k, experts),
        router_parameters=moe.router_parameters * experts // moe.experts,
        router_bytes=moe.router_bytes * experts // moe.experts,
        varies=mean_choices not in (0, min(top_k, experts)),
    )


def varying(model: ModelSpec, varies: Iterable[bool]) -> ModelSpec:
    """``model``, of whose MoE layers some tokens take fewer experts also where one ``varies``."""
    if not any(of_layers := list(map(bool, varies))):
        return model
    of_moe = iter(of_layers)
    layers = [
        replace(layer, moe=replace(layer.moe, varies=next(of_moe) or layer.moe.varies))
        if layer.moe
        else layer
        for layer in model.layers
    ]
    return replace(model, layers=tuple(layers))
