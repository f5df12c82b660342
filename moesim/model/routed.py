"""A model by other rules of routing: other numbers of choices, and fewer experts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from moesim.model.spec import ModelSpec, MoeSpec


def routed(model: ModelSpec, experts: Sequence[int], top_k: int) -> ModelSpec:
    """``model`` with so many ``experts`` in each MoE layer, of which tokens take ``top_k`` at most.
    A router shrinks with its experts.
    """
    numbers = iter(experts)
    layers = [
        replace(layer, moe=_mixture(layer.moe, top_k, next(numbers))) if layer.moe else layer
        for layer in model.layers
    ]
    return replace(model, layers=tuple(layers))


def _mixture(moe: MoeSpec, top_k: int, experts: int) -> MoeSpec:
    return replace(
        moe,
        experts=experts,
        top_k=min(top_k, experts),
        router_parameters=moe.router_parameters * experts // moe.experts,
        router_bytes=moe.router_bytes * experts // moe.experts,
    )


def varying(model: ModelSpec, varies: Iterable[bool]) -> ModelSpec:
    """``model``, of whose MoE layers some tokens take fewer experts where one ``varies``."""
    of_moe = map(bool, varies)
    layers = [
        replace(layer, moe=replace(layer.moe, varies=next(of_moe))) if layer.moe else layer
        for layer in model.layers
    ]
    return replace(model, layers=tuple(layers))
