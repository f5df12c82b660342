"""What a caching allocator takes for tensors that stay.

The rules are PyTorch's (c10/cuda/CUDACachingAllocator.cpp, from memory; the same from 1.4 on unless
an environment variable changes them). What it keeps of tensors that went is not told: it gives that
back before it says that memory is short, but for segments of which a part is still in use.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from functools import lru_cache

from moesim.config.amounts.sizes import MIB
from moesim.model.tensors import Tensors

BLOCK = 512
"""Sizes of blocks are multiples of it."""
SMALL = MIB
"""Tensors up to it lie in segments of their own kind; a larger one's rest is used if it is more."""
SMALL_SEGMENT, SEGMENT = 2 * MIB, 20 * MIB
LARGE, ROUNDED = 10 * MIB, 2 * MIB
"""From ``LARGE`` on a tensor that finds no room gets a segment of its own, ``ROUNDED`` up."""


@lru_cache(maxsize=64)
def reserved_bytes(tensors: Tensors) -> int:
    """Bytes of all segments that hold ``tensors``, which come in this order and stay."""
    free: tuple[list[int], list[int]] = ([], [])  # of large and of small tensors, ascending
    return sum(_taken(size, free[size <= SMALL]) for size, count in tensors for _ in range(count))


def _taken(tensor: int, free: list[int]) -> int:
    """Bytes of the new segment for ``tensor``, 0 where a block of ``free`` holds it."""
    size = _up(max(tensor, 1), BLOCK)
    place, segment = bisect_left(free, size), 0
    if place == len(free):
        segment = SMALL_SEGMENT
        if size > SMALL:
            segment = SEGMENT if size < LARGE else _up(size, ROUNDED)
        block = segment
    else:
        block = free.pop(place)
    rest = block - size
    if rest >= BLOCK if size <= SMALL else rest > SMALL:
        insort(free, rest)
    return segment


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
