"""GShard's gating: an equal share of the tokens for every expert, with a rule for drops."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from moesim.gating.base import Drop, Gating, Ints, exact_ceiling


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

    def room(self, tokens: Ints, experts: int, top_k: int) -> Ints | None:
        """An even share of the choices, times the factor."""
        share = top_k * Fraction(str(self.factor)) / experts
        return np.maximum(exact_ceiling(tokens.max(axis=1), share), self.min_capacity)
