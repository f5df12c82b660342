"""A choice and what its run gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moesim.metrics.blocks import Blocks
from moesim.metrics.intervals import Difference, speed_difference
from moesim.sweep.advise.choices import Choice
from moesim.sweep.speeds import speed_of


@dataclass(frozen=True)
class Scored:
    """A choice, the summary of its run and, where they are known, its blocks; ``timed``: requests
    came when they came, so that what all get together says nothing of the choice.
    """

    choice: Choice
    summary: Mapping[str, Any]
    blocks: Blocks | None = field(default=None, compare=False, repr=False)
    timed: bool = False

    def over(self, other: Scored | None) -> Difference | None:
        """How far it is faster than ``other``, with an interval; None where one is not known."""
        if other is None or self.timed:
            return None
        prices = (self.summary.get("price_interval"), other.summary.get("price_interval"))
        return speed_difference(self.blocks, other.blocks, prices)

    @property
    def throughput(self) -> float | None:
        """As ``speed_of``."""
        return speed_of(self.summary, timed=self.timed)

    @property
    def slots(self) -> int | None:
        """Slots a layer."""
        return self.summary.get("slots_per_layer")
