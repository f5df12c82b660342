"""A scheduler of an engine that serves requests: which tokens the next step has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field

from moesim.config.params import Params
from moesim.workload.serving.state import BY_LOAD, BY_PREFIX, NEVER, ROUND_ROBIN

Rule = Callable[..., None]
"""``rule(state, knobs, rank)`` adds the tokens of a rank to the step, by the functions of
``blocks.py`` and ``lists.py``; plain, in words that numba compiles."""


BALANCES = {"least_loaded": BY_LOAD, "round_robin": ROUND_ROBIN, "prefix": BY_PREFIX}


class RequestScheduler(Params):
    """A rule, and the numbers that it goes by."""

    by_priority: ClassVar[bool] = False
    verifies_drafts: ClassVar[bool] = False
    """Whether its rule schedules all that is ``due``, drafts among it."""
    shares_without_passes: ClassVar[bool] = False
    """Whether its share of memory is of weights and cache alone, a pass's own beside it."""
    counts_requests: ClassVar[bool] = False
    """Whether it never finds too few blocks where those that run and the next one have as many as
    they will ever need, and those of the watermark stay free."""

    max_num_seqs: int = Field(
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
    def orders(self) -> tuple[int, int]:
        """Whether waiting goes by priority, and how ranks share requests."""
        return int(self.by_priority), BALANCES[self.data_parallel]

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
