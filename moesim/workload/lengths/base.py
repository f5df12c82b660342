"""How long prompts and answers of requests are."""

from __future__ import annotations

from typing import ClassVar

from numpy.random import Generator

from moesim.config.params import Params
from moesim.workload.arrivals.base import Arrived, fault_of_whole
from moesim.workload.schedule import Ints

Pair = tuple[Ints, Ints]
"""Input and output tokens int64[n]."""
PARTS = ("prompts", "answers")
MOST_TOKENS = 1 << 31
"""Of a prompt or an answer: sums of them are counted in 64 bits, and blocks are kept for each."""


class Lengths(Params):
    """A kind of lengths; an output length is exact, as with ``--ignore-eos``. ``of_trace``: they
    are those of the trace's requests that give the routing, so these are chosen first.
    """

    of_trace: ClassVar[bool] = False

    def lengths(self, arrived: Arrived, stream: Generator, bound: Pair | None) -> Pair:
        """Of each of ``arrived``, 1 or more each; ``bound``: those of the trace's requests, where
        these are chosen first.

        Raises InputError where the arrivals do not say what is asked of them.
        """
        raise NotImplementedError


def fault_of_lengths(lengths: Pair, number: int) -> str:
    """What is wrong with ``lengths`` of ``number`` requests; "" where nothing is."""
    if not isinstance(lengths, tuple) or len(lengths) != len(PARTS):
        return f"gives {type(lengths).__name__}, not two arrays: lengths of prompts and of answers"
    for name, column in zip(PARTS, lengths, strict=True):
        if fault := fault_of_whole(column, number, 1):
            return f"gives lengths of {name} {fault}"
        if (column > MOST_TOKENS).any():
            return f"gives lengths of {name} above {MOST_TOKENS:,} tokens"
    return ""
