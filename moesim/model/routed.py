"""A model by other rules of routing: other numbers of choices, and fewer experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from moesim.model.spec import ModelSpec, MoeSpec


def routed(
    model: ModelSpec, experts: Sequence[int], top_k: int, mean_choices: Sequence[float]
) -> ModelSpec:
    """``model`` with so many ``experts`` and ``mean_choices`` in each MoE layer, a token taking
    ``top_k`` at most. A router shrinks with its experts. Of a layer that no token runs, or in which
    none has a choice left (0), the number stays ``top_k``.
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
        mean_choices=None if mean_choices in (0, min(top_k, experts)) else mean_choices,
    )
