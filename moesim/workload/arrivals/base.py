"""When requests come to be served, and what a file of them says beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.config.params import Params
from moesim.workload.schedule import Ints

SECOND = 1_000_000_000
MOST_NS = 10**18
"""The latest instant: the clock counts nanoseconds in 64 bits, and needs room beyond it."""


@dataclass(frozen=True, eq=False)
class Prefixes:
    """Which prompts begin alike: of each request the ids ``offsets[i]:offsets[i + 1]``, int64, each
    of ``block_tokens`` int64[n] tokens of it, from its first on. Tokens under one id are equal
    where all ids before are.
    """

    offsets: Ints
    ids: Ints
    block_tokens: Ints


@dataclass(frozen=True, eq=False)
class Arrived:
    """Requests in order of arrival, ties as they come; int64[n] each.

    ``arrival_ns``; None where it is not said: lengths in tokens, ``priority`` (less is sooner),
    what each ``follows`` (the number of the one before in its session, -1: none) and ``think_ns``
    after the end of that (of a closed loop: beside ``Arrivals.think_ns``), and ``prefixes``. One
    that follows another has no instant of its own.
    """

    arrival_ns: Ints
    input_tokens: Ints | None = None
    output_tokens: Ints | None = None
    priority: Ints | None = None
    follows: Ints | None = None
    think_ns: Ints | None = None
    prefixes: Prefixes | None = None


class Arrivals(Params):
    """A kind of arrivals. ``clockless``: which requests are there depends on ends alone, not on
    when these are.
    """

    clockless: ClassVar[bool] = False

    @property
    def concurrency(self) -> int | None:
        """Requests in flight, of which each end brings the next; None: ends bring none."""
        return None

    @property
    def timed(self) -> bool:
        """Whether requests come when they come, whatever ends: they set the throughput, as long as
        the service keeps up.
        """
        return not self.clockless and self.concurrency is None

    @property
    def think_ns(self) -> int:
        """From such an end to the next request."""
        return 0

    @property
    def reads(self) -> str | None:
        """The file that says the arrivals, None: no file does."""
        return None

    def arrive(self, count: int, stream: Generator, folders: Sequence[Path]) -> Arrived:
        """``count`` requests (of a file: at most); ``stream`` is the draws' own.

        Raises InputError where a file cannot be read.
        """
        raise NotImplementedError


def whole(instants: NDArray[np.floating[Any]]) -> Ints:
    """Instants in ns, rounded to whole ones; InputError where one is later than the clock goes."""
    check_latest(float(np.max(instants, initial=0)))
    rounded: Ints = np.rint(instants).astype(np.int64)
    return rounded


def check_latest(instant_ns: float) -> None:
    """InputError where a request may come as late as ``instant_ns``, and the clock ends before."""
    if not instant_ns <= MOST_NS:
        what = f"a request comes {instant_ns / SECOND:.3g} s after the first, and the clock goes to"
        what += f" {MOST_NS / SECOND:.0e} s; write a larger rate, shorter times, or fewer requests"
        raise InputError([Problem("", "workload.arrivals", what)])
