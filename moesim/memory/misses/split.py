"""Divide the misses of a step between copies and the host."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from moesim.memory.forms import IN_SLOT, LOADED, ON_HOST, Form
from moesim.memory.misses.base import Beside, MissHandling
from moesim.memory.misses.cheapest import Cheapest

FORMS = (LOADED, ON_HOST)
HOST = FORMS.index(ON_HOST)


class Split(Beside):
    """The misses of a layer in a pass are divided before any is served: those with most rows are
    copied to the GPU, the host computes the others meanwhile, and no slot is taken for these.

    ``least_makespan`` copies as many as let the later one of copies and host end soonest
    (FreeToken, arXiv 2608.16157). ``bandwidth`` copies the link's share of both bandwidths, times
    ``alpha``, and one at least (MoNDE, arXiv 2405.18832, which tunes its alpha: .5 to 8).
    ``cheapest`` decides expert by expert, as that way does.
    """

    kind: Literal["split"] = "split"
    rule: Literal["bandwidth", "least_makespan", "cheapest"] = Field(
        default="least_makespan", description="By what the misses of a layer are divided."
    )
    alpha: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=1.0, description="Under bandwidth: times the link's share of both bandwidths."
    )
    compares: ClassVar[bool] = True
    splits: ClassVar[bool] = True
    forms: ClassVar[tuple[Form, ...]] = FORMS

    def loads_of(self, experts: int, bandwidths: tuple[int, int]) -> tuple[int, ...]:
        """See ``MissHandling``."""
        if self.rule != "bandwidth":
            return ()
        link, host = bandwidths
        share = Fraction(str(self.alpha)) * Fraction(link, link + host)
        return (0, *(min(max(ceil(share * n), 1), n) for n in range(1, experts + 1)))

    def resolved(self) -> MissHandling:
        """See ``MissHandling``."""
        return Cheapest(computed_by=self.computed_by) if self.rule == "cheapest" else self

    @staticmethod
    def place(missing: Any) -> Any:
        """As planned."""
        return IN_SLOT if missing.planned else HOST
