"""Experts give way before requests are preempted."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from moesim.workload.serving.state import FREE, OWN_SPLIT, UNITS, State
from moesim.workload.splits.base import Rule, Shared, Split


class Knobs(NamedTuple):
    """Units that experts may give in all, when one may go back, and for how long that has to be."""

    gives: int
    enough: int
    patience: int


class KvFirst(Split):
    """Before a preemption experts give units, which go back when blocks have long been free."""

    moves: ClassVar[bool] = True
    kind: Literal["kv_first"] = "kv_first"
    min_slots: int | None = Field(
        default=None,
        ge=1,
        description="Slots that a layer keeps; by default as many as a token chooses experts.",
    )
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
        least = shared.top_k if self.min_slots is None else self.min_slots
        gives = max(shared.slots - least, 0)
        return Knobs(gives, shared.unit + shared.watermark, self.patience)


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
