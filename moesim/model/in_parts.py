"""Experts of several parts: shares of their neurons, each in a format or of a rank of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from moesim.config.errors import InputError
from moesim.model.spec import FfnSpec, LayerSpec, ModelSpec


@dataclass(frozen=True)
class Neurons:
    """A part of an expert in some format: this share of its ``rows`` (inner neurons), their
    matrices products of two of this ``rank``, or as they are (None).
    """

    rows: Fraction = Fraction(1)
    rank: int | None = None

    def of(self, expert: FfnSpec) -> FfnSpec:
        """The part of ``expert``: what it has goes by its weights, rounded up. Raises InputError
        where a rank saves nothing.
        """
        whole, hidden = expert.intermediate_size, expert.hidden_size
        width = -(-whole * self.rows.numerator // self.rows.denominator)
        weights, every = hidden * width, hidden * whole
        if self.rank is not None:
            fewer = self.rank * (hidden + width)
            if fewer >= weights:
                what = f"{self.rank} saves nothing of {width} neurons of {hidden} weights a matrix"
                most = (weights - 1) // (hidden + width)
                raise InputError(f"rank: {what}; write {most} or less, or leave it out")
            weights = fewer
        return replace(
            expert,
            intermediate_size=width,
            parameters=-(-expert.parameters * weights // every),
            bytes=-(-expert.bytes * weights // every),
            rank=self.rank or 0,
        )


def joined(
    parts: Sequence[FfnSpec], resident: Sequence[Fraction], reused: Sequence[Fraction]
) -> FfnSpec:
    """The expert of ``parts`` that are all used: of each these shares stay on the GPU, what is
    ``resident`` there alone, what is ``reused`` in host memory, too. The rest has slots.
    """
    kept, again = (
        sum(int(one.bytes * share) for one, share in zip(parts, shares, strict=True))
        for shares in (resident, reused)
    )
    return replace(
        parts[0],
        intermediate_size=sum(one.intermediate_size for one in parts),
        parameters=sum(one.parameters for one in parts),
        bytes=sum(one.bytes for one in parts) - kept - again,
        resident_bytes=kept + again,
        reused_bytes=again,
        rank=0,
        parts=tuple(parts),
    )


def experts_of(model: ModelSpec) -> list[FfnSpec]:
    """An expert of each MoE layer."""
    return [layer.moe.expert for layer in model.moe_layers if layer.moe]


def with_experts(model: ModelSpec, experts: Sequence[FfnSpec]) -> ModelSpec:
    """``model`` with these experts, by MoE layer."""
    left = iter(experts)

    def changed(layer: LayerSpec) -> LayerSpec:
        if layer.moe is None:
            return layer
        return replace(layer, moe=replace(layer.moe, expert=next(left)))

    return replace(model, layers=tuple(changed(layer) for layer in model.layers))
