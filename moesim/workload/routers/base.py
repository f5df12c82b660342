"""A router: which replica of an engine gets a request that comes."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field

from moesim.config.params import Params
from moesim.config.units import Duration

Ints = NDArray[np.int64]


class Seen(NamedTuple):
    """What a router sees as a request comes, int64[replicas] each: requests that are ``waiting``
    and ``running`` on each when it last told, and those that the router has sent there since among
    the waiting; tokens of its prompt that each has ``cached`` (0 where the router does not ask).
    ``number``: requests that came before; ``before``: the replica of the one before in its session,
    -1 without. ``overlap``: choices of its prompt for experts that each has used last, None where
    the router does not ask.
    """

    number: int
    waiting: Ints
    running: Ints
    cached: Ints
    before: int
    overlap: Ints | None = None

    @property
    def outstanding(self) -> Ints:
        """Requests of each."""
        return self.waiting + self.running


class Router(Params):
    """Chooses a replica by what it sees; ``stream`` is its alone."""

    reads_prefixes: ClassVar[bool] = False
    """Whether it sees what is ``cached``."""

    reads_experts: ClassVar[bool] = False
    """Whether it sees the ``overlap``."""

    stats_interval: Duration = Field(
        default=0.0,
        description="Replicas tell how many requests they have at multiples of it; by default "
        "whenever one is asked for.",
    )

    def choose(self, seen: Seen, stream: Generator) -> int:
        """The replica, from 0 on."""
        raise NotImplementedError


def fault_of_choice(chosen: object, replicas: int) -> str:
    """What is wrong with the replica that was ``chosen`` of so many; "" where nothing is."""
    if not isinstance(chosen, int | np.integer):
        return f"chose {chosen!r}, which is no whole number"
    return "" if 0 <= chosen < replicas else f"chose replica {chosen} of {replicas}"


def least(values: Any) -> int:
    """The first of those with the least."""
    return int(np.argmin(values))
