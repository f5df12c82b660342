"""How the slots of a GPU are shared out over its MoE layers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moesim.config.params import Params
from moesim.config.units import Percent


class EqualSlots(Params):
    """Every MoE layer has the same number of slots."""

    kind: Literal["equal"] = Field(default="equal", description="How slots are shared out.")


class SlotsByLayer(Params):
    """A layer has more slots where more of them save misses, within the bytes of equal slots.

    Each layer's misses under LRU are counted for every number of slots in the first part of the
    run.
    """

    kind: Literal["by_layer"] = Field(default="by_layer", description="How slots are shared out.")
    first_part: Percent = Field(
        default=0.25,
        description="Share of the run's forward passes, from its start, in which misses are "
        "counted.",
    )
