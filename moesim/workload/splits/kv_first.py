"""Experts give way before requests are preempted."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from moesim.workload.serving.state import FREE, OWN_SPLIT, UNITS, State
from moesim.workload.splits.base import KeepsSlots, Rule, Shared


class Knobs(NamedTuple):
    """Units that experts may give in all, when one may go back, and for how long that has to be."""

    gives: int
    enough: int
    patience: int


class KvFirst(KeepsSlots):
    """Before a preemption experts give units, which go back when blocks have long been free."""

    moves: ClassVar[bool] = True
    kind: Literal["kv_first"] = "kv_first"
    patience: int = Field(
        default=64,
        ge=1,
        description="Steps in a row with more free blocks than a unit and the watermark, before a "
        "unit goes back.",
    )

    def offer(self) -> Rule:
        """See ``Split``."""
        return offer

    def move(self) -> Rule:
        """See ``Split``."""
        return move

    def knobs(self, shared: Shared) -> Knobs:
        """See ``Split``."""
        return Knobs(self.gives(shared), shared.unit + shared.watermark, self.patience)


def offer(state: State, knobs: Knobs, rank: int) -> int:
    """Those that experts have beyond the least."""
    return int(max(knobs.gives - state.ranks[UNITS, rank], 0))


def move(state: State, knobs: Knobs, rank: int) -> int:
    """One, after enough steps in a row."""
    if state.ranks[UNITS, rank] <= 0 or state.ranks[FREE, rank] <= knobs.enough:
        state.ranks[OWN_SPLIT, rank] = 0
        return 0
    state.ranks[OWN_SPLIT, rank] += 1
    if state.ranks[OWN_SPLIT, rank] < knobs.patience:
        return 0
    state.ranks[OWN_SPLIT, rank] = 0
    return 1
