"""Experts take what requests do not need."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from moesim.workload.serving.state import FREE, MEMORY, UNIT, UNITS, State
from moesim.workload.splits.base import Rule, Shared, Split


class Knobs(NamedTuple):
    """Units that experts may take in all, and blocks that they leave."""

    takes: int
    least: int


class ExpertsFirst(Split):
    """Experts take free blocks, down to a least number of all; requests are preempted sooner."""

    moves: ClassVar[bool] = True
    kind: Literal["experts_first"] = "experts_first"
    min_blocks: int | None = Field(
        default=None,
        ge=1,
        description="Blocks that the pool keeps; by default those of the longest request. Longer "
        "requests are rejected.",
    )

    def move(self) -> Rule:
        """See ``Split``."""
        return move

    def knobs(self, shared: Shared) -> Knobs:
        """See ``Split``."""
        return Knobs(shared.most - shared.slots, self.least_blocks(shared))

    def least_blocks(self, shared: Shared) -> int:
        """See ``Split``."""
        asked = shared.longest if self.min_blocks is None else self.min_blocks
        return min(asked, shared.blocks)


def move(state: State, knobs: Knobs, rank: int) -> int:
    """All that are free, as long as the pool has enough without them and experts have a use."""
    unit, given = state.numbers[UNIT], state.ranks[UNITS, rank]
    pool = state.ranks[MEMORY, rank] + given * unit
    units = min(state.ranks[FREE, rank] // unit, (pool - knobs.least) // unit, knobs.takes + given)
    return int(max(units, 0))
