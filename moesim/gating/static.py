"""Static gating: a fixed capacity for every sender and expert."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from moesim.config.units import Percent
from moesim.gating.base import Drop, Gating, Ints, fraction_capacity


class Static(Gating):
    """Capacity as a fraction of the sender's tokens; padding and drops are counted.

    A sender's tokens are those of the fullest GPU (its batch is padded to it); choices beyond the
    capacity are dropped. Default 25 % as in fairseq's ``moe_eval_capacity_token_fraction``.
    """

    kind: Literal["static"] = "static"
    capacity_fraction: Annotated[
        Percent, Field(description="Rows per sender and expert, as a share of the sender's tokens.")
    ] = 0.25
    uneven: ClassVar[bool] = False
    invokes_all: ClassVar[bool] = True
    masks: ClassVar[bool] = True

    @property
    def drops(self) -> Drop | None:
        """All first choices come before all second ones."""
        return "first_come"

    def room(self, tokens: Ints, experts: int, top_k: int) -> Ints | None:
        """A share of the tokens."""
        del experts, top_k
        return fraction_capacity(self.capacity_fraction, tokens)
