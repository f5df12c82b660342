"""A scheduler of an engine that serves requests: which tokens the next step has."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from moesim.config.params import Params
from moesim.config.registry import answering, wrong_answer
from moesim.model import ModelSpec
from moesim.workload.serving.state import (
    BY_LOAD,
    BY_PREFIX,
    ENDED,
    GIVEN,
    NEVER,
    OUTPUT,
    REJECTED,
    ROUND_ROBIN,
    STATUS,
    State,
)

Rule = Callable[..., None]
"""``rule(state, knobs, rank)`` adds the tokens of a rank to the step, by the functions of
``blocks.py`` and ``lists.py``; plain, in words that numba compiles."""


FEWEST_SEQS = 256
"""Of an engine of which no card is known."""
KEY = "workload.batching.scheduler"
BALANCES = {"least_loaded": BY_LOAD, "round_robin": ROUND_ROBIN, "prefix": BY_PREFIX}


class RequestScheduler(Params):
    """A rule, and the numbers that it goes by."""

    by_priority: ClassVar[bool] = False
    verifies_drafts: ClassVar[bool] = False
    """Whether its rule schedules all that is ``due``, drafts among it."""
    shares_windows: ClassVar[bool] = False
    """Whether layers with a sliding window take blocks of the pool that all layers share."""
    shares_without_passes: ClassVar[bool] = False
    """Whether its share of memory is of weights and cache alone, a pass's own beside it."""
    kv_share: ClassVar[float | None] = None
    """Of what all else leaves, what keys and values take where nothing is said; None: what
    ``memory.gpu_memory_utilization`` leaves."""
    counts_requests: ClassVar[bool] = False
    """Whether it never finds too few blocks where those that run and the next one have as many as
    they will ever need, and those of the watermark stay free."""
    keeps_when_seen: ClassVar[bool] = False
    """Whether what is on its way counts once it has been seen: blocks of a prompt that ended, and
    of an answer once that has, can be found, and who is preempted loses a token."""
    usual_block: ClassVar[int] = 16
    """Tokens of a block of its engine where nothing is said."""

    max_num_seqs: int | None = Field(
        default=256, ge=1, le=1 << 16, description="Requests that run at once on a rank."
    )
    async_scheduling: bool = Field(
        default=True,
        description="A step is decided while the one before runs, so that ends are seen one step "
        "late, and the host's time is hidden.",
    )
    data_parallel: Literal["least_loaded", "round_robin", "prefix"] = Field(
        default="least_loaded",
        description="Which rank gets a request: that with the least 4 x waiting + running (vLLM's "
        "balancer), one after the other, or that with most of its prompt cached.",
    )

    @property
    def orders(self) -> tuple[int, int, int]:
        """Whether waiting goes by priority, how ranks share requests, and ``keeps_when_seen``."""
        return int(self.by_priority), BALANCES[self.data_parallel], int(self.keeps_when_seen)

    def on_card(self, memory_bytes: int, name: str) -> Self:
        """With what its engine takes of a GPU of this ``name`` with so much memory, where nothing
        is said.
        """
        del memory_bytes, name
        return self

    def served_by(self, software: str, model: ModelSpec) -> Self:
        """With what this ``software`` does of itself with ``model``, where nothing is said."""
        del software, model
        return self

    @property
    def most_running(self) -> int:
        """The most requests of a rank that run at once."""
        return self.max_num_seqs or FEWEST_SEQS

    @property
    def longest(self) -> int:
        """Tokens of the longest request, prompt and answer, that it ever schedules."""
        return NEVER

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt that it ever schedules."""
        return NEVER

    @property
    def most_tokens(self) -> int | None:
        """The most tokens of a rank in one step; None: any."""
        return None

    @property
    def promises_blocks(self) -> bool:
        """Whether those that run have free blocks left for all that they will ever need."""
        return False

    @property
    def most_flying(self) -> int:
        """The most tokens of a rank in steps whose end has not been seen."""
        most = self.most_tokens
        return NEVER if most is None else most * (2 if self.async_scheduling else 1)

    @property
    def keeps_windows(self) -> bool:
        """Whether layers with a sliding window hold what it has of a request, not every token."""
        return True

    def watermark_blocks(self, blocks: int) -> int:
        """Of so many ``blocks``, those that stay free when a request is admitted beside others."""
        del blocks
        return 0

    def rule(self) -> Rule:
        """What chooses the tokens of a step."""
        raise NotImplementedError

    def knobs(self, blocks: int) -> Any:
        """The numbers of the rule, a named tuple of int; a rank has ``blocks``."""
        raise NotImplementedError


def knobs_of(scheduler: RequestScheduler, blocks: int) -> Any:
    """The numbers of the rule of ``scheduler`` where a rank has so many ``blocks``; an InputError
    where they are none, or the rule is no function.
    """
    with answering(KEY, scheduler):
        knobs, rule = scheduler.knobs(blocks), scheduler.rule()
    if fault := fault_of_rule(rule, knobs):
        raise wrong_answer(KEY, scheduler, fault)
    return knobs


def fault_of_rule(rule: object, knobs: object) -> str:
    """What is wrong with a ``rule`` and its ``knobs``; "" where nothing is."""
    if not isinstance(rule, FunctionType):
        return f"gives {rule!r} as a rule, not a function"
    if not isinstance(knobs, tuple) or not hasattr(knobs, "_fields"):
        return f"gives {knobs!r} as knobs, not a named tuple"
    whole = all(isinstance(one, int | np.integer) for one in knobs)
    return "" if whole else f"gives knobs {[*knobs]}, not whole numbers"


def fault_of_served(state: State) -> str:
    """What is wrong with the ``state`` at the end of all steps; "" where nothing is: every request
    is rejected, or has its answer, and not more.
    """
    asked = state.requests
    ended = asked[STATUS] == ENDED
    left = int((~ended & (asked[STATUS] != REJECTED)).sum())
    if left:
        return f"leaves {left} of {len(ended)} requests without their answers"
    wrong = ended & (asked[GIVEN] != asked[OUTPUT])
    if not wrong.any():
        return ""
    first = int(wrong.argmax())
    return f"gives request {first} {asked[GIVEN, first]} tokens of {asked[OUTPUT, first]}"
