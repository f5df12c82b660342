"""GShard's gating: an equal share of the tokens for every expert, with a rule for drops."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from moesim.gating.base import Drop, Gating, Ints, Routed, exact_ceiling, padded_to


class Gshard(Gating):
    """Capacity tokens x k / experts x ``factor``, at least ``min_capacity``, with dense masks
    (GShard, arXiv 2006.16668; DeepSpeed's ``sharded_moe.py``, whose default factor and minimum
    these are).

    The tokens are those of the fullest GPU. ``random`` is DeepSpeed's random token selection,
    ``highest_gate_first`` its drop policy by probabilities, ``batch_prioritised`` that of V-MoE
    (arXiv 2106.05974).
    """

    kind: Literal["gshard"] = "gshard"
    factor: Annotated[
        float,
        Field(gt=0, le=1e6, description="Room for this many times an even share of the choices."),
    ] = 1.0
    min_capacity: Annotated[
        int, Field(ge=0, le=1 << 20, description="The least rows per sender and expert.")
    ] = 4
    drop: Annotated[
        Drop,
        Field(
            description="Which choices are kept: the first tokens', randomly chosen ones, those of "
            "the highest gate weight, or those of tokens with the highest weight."
        ),
    ] = "first_come"
    uneven: ClassVar[bool] = False
    invokes_all: ClassVar[bool] = True
    masks: ClassVar[bool] = True

    @property
    def drops(self) -> Drop | None:
        """By the experiment's rule."""
        return self.drop

    def route(self, counts: Ints, tokens: Ints, top_k: int) -> Routed:
        """Clip every count at the capacity, and pad it to the capacity."""
        share = top_k * Fraction(str(self.factor)) / counts.shape[3]
        capacity = np.maximum(exact_ceiling(tokens.max(axis=1), share), self.min_capacity)
        return padded_to(np.repeat(capacity[:, None], counts.shape[1], axis=1), counts)

    def waste_factor(self, experts: int, top_k: int) -> Fraction | None:
        """The factor, where it and not the minimum decides."""
        del experts, top_k
        return Fraction(str(self.factor))
