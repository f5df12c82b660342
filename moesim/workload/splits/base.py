"""Slots of experts and blocks of keys and values share a GPU's memory, and may change places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from moesim.config.params import Params
from moesim.config.registry import answering, wrong_answer
from moesim.workload.serving.base import fault_of_rule
from moesim.workload.serving.state import LEAST, MEMORY, STEPS, UNIT, Exchange, State

KEY = "memory.split"
Rule = Callable[..., int]
"""``rule(state, knobs, rank)`` counts units; plain, in words that numba compiles, and by counters
alone: it never reads the clock."""


class Shared(NamedTuple):
    """What a rank's GPUs share out. A unit is a slot in every MoE layer (of a pool over all layers,
    a slot) and worth ``unit`` blocks. At the start experts have ``slots`` (of the layer with the
    fewest), and ``most`` where all are resident; a token chooses ``top_k``. The pool then has
    ``blocks``, of which the longest request needs ``longest`` and an admission leaves
    ``watermark``. ``copy_ns``: of an expert; ``token_ns``: of a token among many; ``step_ns``: of a
    step of one.
    """

    unit: int
    slots: int
    most: int
    top_k: int
    blocks: int
    longest: int
    watermark: int
    copy_ns: int
    token_ns: int
    step_ns: int


class Split(Params):
    """A kind says how many units experts offer before a step, should requests have to be preempted
    else, and how many move once the step is decided.
    """

    moves: ClassVar[bool] = False
    """Whether anything ever moves."""
    reads_misses: ClassVar[bool] = False
    """Whether it goes by what caches missed, so that steps are decided as the run goes."""

    def offer(self) -> Rule:
        """Units that experts give up before a request is preempted in the step to come, at most."""
        return nothing

    def move(self) -> Rule:
        """Units that move after a step is decided: from blocks to experts, or, below 0, back. What
        is not free does not move.
        """
        return nothing

    def knobs(self, shared: Shared) -> Any:
        """The numbers of both rules, a named tuple of int."""
        raise NotImplementedError

    def least_blocks(self, shared: Shared) -> int:
        """Blocks that the pool always has: a request that needs more is rejected."""
        return shared.blocks

    def exchange(self, shared: Shared) -> Exchange | None:
        """What a scheduler needs to know; None where nothing moves."""
        if not self.moves:
            return None
        with answering(KEY, self):
            offer, move, knobs = self.offer(), self.move(), self.knobs(shared)
            least = self.least_blocks(shared)
        if fault := _fault_of(offer, move, knobs) or _fault_of_least(least, shared.blocks):
            raise wrong_answer(KEY, self, fault)
        gives = shared.slots - 1
        return Exchange(offer, move, knobs, shared.unit, gives, least, self.reads_misses)


class KeepsSlots(Split):
    """Experts keep some slots."""

    min_slots: int | None = Field(
        default=None,
        ge=1,
        description="Slots that a layer keeps; by default as many as a token chooses experts.",
    )

    def gives(self, shared: Shared) -> int:
        """Units that experts may give in all."""
        least = shared.top_k if self.min_slots is None else self.min_slots
        return max(shared.slots - least, 0)


class KeepsBlocks(Split):
    """The pool keeps some blocks."""

    min_blocks: int | None = Field(
        default=None,
        ge=1,
        description="Blocks that the pool keeps; by default those of the longest request. Longer "
        "requests are rejected.",
    )

    def least_blocks(self, shared: Shared) -> int:
        """See ``Split``."""
        asked = shared.longest if self.min_blocks is None else self.min_blocks
        return min(asked, shared.blocks)


def _fault_of(offer: object, move: object, knobs: object) -> str:
    return fault_of_rule(offer, knobs) or fault_of_rule(move, knobs)


def _fault_of_least(least: object, blocks: int) -> str:
    if isinstance(least, int | np.integer) and 1 <= least <= blocks:
        return ""
    return f"promises {least!r} blocks of {blocks}"


def fault_of_units(state: State) -> str:
    """What is wrong with the ``state`` at the end of all steps, of which units changed places; "":
    nothing, the pool had as many blocks as were promised.
    """
    pool = (
        state.ranks[MEMORY][:, None] + state.units[:, : state.numbers[STEPS]] * state.numbers[UNIT]
    )
    least = int(state.numbers[LEAST])
    return "" if (pool >= least).all() else f"leaves {pool.min()} blocks, and promises {least}"


def nothing(state: Any, knobs: Any, rank: int) -> int:  # noqa: ARG001 (what a rule is given)
    """No unit."""
    return 0
