"""A unit goes where it saves more time."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from moesim.workload.serving.state import (
    AGAIN,
    BLOCKED,
    GHOSTS,
    MEMORY,
    STEPS,
    UNIT,
    UNITS,
    State,
)
from moesim.workload.splits.base import KeepsBlocks, KeepsSlots, Rule, Shared


class Knobs(NamedTuple):
    """Units that experts may give and take in all, blocks that the pool keeps, steps from one
    comparison to the next, and what is compared.
    """

    gives: int
    takes: int
    least: int
    interval: int
    copy_ns: int
    token_ns: int
    step_ns: int


class Marginal(KeepsSlots, KeepsBlocks):
    """Every so many steps one unit goes to experts or to blocks, whichever would have saved more:
    copies that one slot more had spared, or tokens computed again and steps waited for blocks.
    """

    moves: ClassVar[bool] = True
    reads_misses: ClassVar[bool] = True
    kind: Literal["marginal"] = "marginal"
    interval: int = Field(default=256, ge=1, description="Steps from one comparison to the next.")

    def move(self) -> Rule:
        """See ``Split``."""
        return move

    def knobs(self, shared: Shared) -> Knobs:
        """See ``Split``."""
        return Knobs(
            gives=self.gives(shared),
            takes=shared.most - shared.slots,
            least=self.least_blocks(shared),
            interval=self.interval,
            copy_ns=shared.copy_ns,
            token_ns=shared.token_ns,
            step_ns=shared.step_ns,
        )


def move(state: State, knobs: Knobs, rank: int) -> int:
    """By what was counted since the last comparison."""
    if (state.numbers[STEPS] + 1) % knobs.interval != 0:
        return 0
    unit, given = state.numbers[UNIT], state.ranks[UNITS, rank]
    copies = state.ranks[GHOSTS, rank] * knobs.copy_ns
    requests = (
        state.ranks[AGAIN, rank] * knobs.token_ns + state.ranks[BLOCKED, rank] * knobs.step_ns
    )
    state.ranks[GHOSTS, rank] = state.ranks[AGAIN, rank] = state.ranks[BLOCKED, rank] = 0
    pool = state.ranks[MEMORY, rank] + given * unit
    if copies > requests and knobs.takes + given > 0 and pool - unit >= knobs.least:
        return 1
    return -1 if requests > copies and given < knobs.gives else 0
