"""What an activation counts in the rows of a policy's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moesim.memory.policy import FREQUENCY, INSERTED, LAST_PASS, LAST_USE, NEXT_USE
from moesim.memory.policy_reads import Reads

COUNTED = (LAST_USE, INSERTED, FREQUENCY, NEXT_USE, LAST_PASS)
"""Rows that are written of an expert while its step is decided."""


def counts_in(reads: Reads, row: int) -> bool:
    """Whether a ``row`` of state is filled in for a policy that ``reads`` so much."""
    return reads.rows is None or row in reads.rows


def count_with(reads: Reads) -> Callable[..., None]:
    """What counts an activation in those rows of state that a policy ``reads``."""
    counts_use, counts_pass, counts_times = (
        counts_in(reads, row) for row in (LAST_USE, LAST_PASS, FREQUENCY)
    )

    def count(state: Any, expert: int, now: int, this_pass: int) -> None:
        """Count activation ``now`` of an expert."""
        if counts_use:
            state[LAST_USE, expert] = now
        if counts_pass:
            state[LAST_PASS, expert] = this_pass
        if counts_times:
            state[FREQUENCY, expert] += 1

    return count
