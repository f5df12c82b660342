"""What threads read of this machine's memory, one by itself and several at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from moesim.calibrate.collect.cpu import memory_bytes, physical_cores
from moesim.config.amounts.sizes import GIB, MIB
from moesim.config.errors import InputError

LEAST_BYTES = 256 * MIB
"""Less than this may lie in the caches of servers."""
EACH_BYTES = 64 * MIB
"""Of a core, beyond what caches have for it."""
MOST_OF_MEMORY = 4
"""A part of memory that is taken at most."""
LEAST_ROUNDS = 3
Words = NDArray[np.int64]


class Reads(NamedTuple):
    """What so many ``threads`` read together, each its own part of the same bytes."""

    threads: int
    bytes_per_second: float


def measured(seconds: float) -> Iterator[Reads]:
    """The reads of 1, 2, 4 ... threads and of one a core, in about so many ``seconds``.

    Raises InputError where this machine has too little memory.
    """
    cores = physical_cores()
    counts = sorted({1, cores, *(2**n for n in range(cores.bit_length()))})
    words = np.empty(_bytes(cores, memory_bytes()) // 8, np.int64)
    with ThreadPoolExecutor(cores) as threads:
        list(threads.map(_fill, _parts(words, cores)))
        for count in counts:
            yield Reads(count, _rate(threads, _parts(words, count), seconds / len(counts)))


def _bytes(cores: int, memory: int) -> int:
    wanted = min(max(GIB, EACH_BYTES * cores), memory // MOST_OF_MEMORY)
    if wanted < LEAST_BYTES:
        what = f"this machine has {memory / GIB:.1f} GiB of memory; {LEAST_BYTES // MIB} MiB are"
        raise InputError(f"{what} read, a quarter of it at most")
    return wanted


def _parts(words: Words, count: int) -> Sequence[Words]:
    return np.array_split(words, count)


def _rate(threads: ThreadPoolExecutor, parts: Sequence[Words], seconds: float) -> float:
    """Bytes a second, of rounds of all ``parts`` the one in the middle."""
    took: list[float] = []
    size = sum(part.nbytes for part in parts)
    while len(took) < LEAST_ROUNDS or sum(took) < seconds:
        begin = perf_counter()
        list(threads.map(_sum, parts))
        took.append(perf_counter() - begin)
    return size / median(took)


@njit(nogil=True, cache=True)
def _fill(words: Words) -> None:
    """By the thread that reads them: systems put memory where it is first written."""
    words[:] = 1


@njit(nogil=True, cache=True)
def _sum(words: Words) -> int:
    total = 0
    for place in range(len(words)):  # an iterator reads a quarter less a second
        total += words[place]
    return total
