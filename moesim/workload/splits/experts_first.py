"""Experts take what requests do not need."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from moesim.workload.serving.state import FREE, MEMORY, UNIT, UNITS, State
from moesim.workload.splits.base import KeepsBlocks, Rule, Shared


class Knobs(NamedTuple):
    """Units that experts may take in all, and blocks that they leave."""

    takes: int
    least: int


class ExpertsFirst(KeepsBlocks):
    """Experts take free blocks, down to a least number of all; requests are preempted sooner."""

    moves: ClassVar[bool] = True
    kind: Literal["experts_first"] = "experts_first"

    def move(self) -> Rule:
        """See ``Split``."""
        return move

    def knobs(self, shared: Shared) -> Knobs:
        """See ``Split``."""
        return Knobs(shared.most - shared.slots, self.least_blocks(shared))


def move(state: State, knobs: Knobs, rank: int) -> int:
    """All that are free, as long as the pool has enough without them and experts have a use."""
    unit, given = state.numbers[UNIT], state.ranks[UNITS, rank]
    pool = state.ranks[MEMORY, rank] + given * unit
    units = min(state.ranks[FREE, rank] // unit, (pool - knobs.least) // unit, knobs.takes + given)
    return int(max(units, 0))
