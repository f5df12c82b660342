"""What a cache policy is: an order over the experts that could make room."""

from __future__ import annotations

from typing import ClassVar

from moesim.config.params import Params

LAST_USE, INSERTED, FREQUENCY, NEXT_USE, USAGE, ROWS = range(6)
"""Rows of a cache's state int64[ROWS, experts]: turn of the last use, turn of the last load, number
of turns, next (step, turn) as one number, and choices in the first part of the trace.
"""

NEVER = 1 << 62
"""The next use of an expert that is not needed again."""


class CachePolicy(Params):
    """The cache counts, the policy orders.

    A policy gives ``key(expert, state, draw, position, candidates)``: the candidate with the least
    key is evicted, of equals the lowest id. ``state`` is int64[ROWS, experts], ``draw`` a random
    number in [0, 1) of this turn, ``position`` the candidate's rank by id among ``candidates`` of
    them. It is plain arithmetic that numba compiles, so that both engines run the one definition.
    """

    looks_ahead: ClassVar[bool] = False
    """Whether the key reads NEXT_USE, which needs the whole run's batches beforehand."""
    draws: ClassVar[bool] = False
    """Whether the key reads ``draw``."""

    def learning_part(self) -> float:
        """Share of the trace, from its start, whose choices USAGE counts."""
        return 0.0
