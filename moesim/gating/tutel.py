"""Tutel's gating as the reference study used it: padded, with sparse kernels in place of masks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from moesim.config.units import Percent
from moesim.gating.base import Drop, Gating, Ints, fraction_capacity


class Tutel(Gating):
    """The capacity and the drops of static gating; rows are encoded and decoded by sparse kernels
    (arXiv 2206.03382, as in arXiv 2303.06182).
    """

    kind: Literal["tutel"] = "tutel"
    capacity: Annotated[
        Literal["fraction", "no_drop"],
        Field(description="A share of the sender's tokens, or the largest count over the group."),
    ] = "fraction"
    capacity_fraction: Annotated[
        Percent, Field(description="Rows per sender and expert, as a share of the sender's tokens.")
    ] = 0.25
    uneven: ClassVar[bool] = False
    invokes_all: ClassVar[bool] = True
    masks: ClassVar[bool] = False

    @property
    def agrees(self) -> bool:
        """Tutel's adaptive capacity follows from the counts."""
        return self.capacity == "no_drop"

    @property
    def drops(self) -> Drop | None:
        """As static gating, if at all."""
        return None if self.agrees else "first_come"

    def room(self, tokens: Ints, experts: int, top_k: int) -> Ints | None:
        """As static gating's, or the largest count."""
        del experts, top_k
        return None if self.agrees else fraction_capacity(self.capacity_fraction, tokens)
