"""When requests come to be served, and what a file of them says beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.config.params import Params
from moesim.workload.schedule import Ints
from moesim.workload.serving.state import NEVER

SECOND = 1_000_000_000
MOST_NS = 10**18
"""The latest instant: the clock counts nanoseconds in 64 bits, and needs room beyond it."""
LEAST = {"input_tokens": 1, "output_tokens": 1, "priority": None, "follows": -1, "think_ns": 0}
"""The columns of ``Arrived`` beside the instants, and the least that each may have."""


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


def fault_of_arrived(arrivals: Arrivals, arrived: Arrived, count: int) -> str:
    """What is wrong with what ``arrivals`` gave of ``count`` requests; "" where nothing is."""
    if not isinstance(arrived, Arrived):
        return f"gives {type(arrived).__name__}, not an Arrived"
    instants, number = arrived.arrival_ns, len(arrived.arrival_ns)
    if not 1 <= number <= count:
        return f"gives {number} requests of {count}"
    if fault := fault_of_whole(instants, number, None):
        return f"gives instants {fault}"
    return (
        _fault_of_instants(instants)
        or _fault_of_columns(arrived)
        or _fault_of_order(arrivals, arrived)
    )


def _fault_of_instants(instants: Ints) -> str:
    timed = instants[instants != NEVER]
    if not len(timed):
        return "gives no request an instant"
    if timed.min() < 0 or timed.max() > MOST_NS:
        return f"gives an instant outside 0..{MOST_NS:.0e} ns"
    if (np.diff(timed) < 0).any():
        return "gives instants that do not ascend"
    return ""


def in_int64(arrived: Arrived) -> Arrived:
    """``arrived``, which has no fault, as compiled code takes it."""
    columns = {name: getattr(arrived, name) for name in ("arrival_ns", *LEAST)}
    there: Any = {name: whole_column(one) for name, one in columns.items() if one is not None}
    return replace(arrived, **there)


def whole_column(column: NDArray[Any]) -> Ints:
    """A ``column`` of whole numbers of any width, as int64."""
    return np.ascontiguousarray(column, np.int64)


def _fault_of_columns(arrived: Arrived) -> str:
    for name, low in LEAST.items():
        column: Ints | None = getattr(arrived, name)
        if column is not None and (fault := fault_of_whole(column, len(arrived.arrival_ns), low)):
            return f"gives {name} {fault}"
    return ""


def _fault_of_order(arrivals: Arrivals, arrived: Arrived) -> str:
    number = np.arange(len(arrived.arrival_ns))
    follows = np.full(len(number), -1) if arrived.follows is None else arrived.follows
    if (follows >= number).any():
        return "gives a request that follows itself or a later one"
    waits = (follows >= 0) | (arrivals.concurrency is not None)
    return "" if waits[arrived.arrival_ns == NEVER].all() else "gives a request that never comes"


def fault_of_whole(column: Any, number: int, low: int | None) -> str:
    """What is wrong with a ``column`` of ``number`` whole numbers from ``low`` on; "": nothing."""
    if not isinstance(column, np.ndarray):
        return f"as {type(column).__name__}, not as an array"
    if column.shape != (number,):
        return f"of shape {column.shape} for {number} requests"
    if not np.issubdtype(column.dtype, np.integer):
        return f"that are {column.dtype}, not whole numbers"
    return "" if low is None or (column >= low).all() else f"below {low}"


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
