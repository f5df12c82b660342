"""Segments of a caching allocator for tensors that stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.config.amounts.sizes import MIB
from moesim.memory.footprint.blocks import reserved_bytes

SIZES = st.sampled_from(
    [1, 511, 513, MIB // 3, MIB - 512, MIB, MIB + 1, 2 * MIB, 3 * MIB, 8 * MIB, 9 * MIB + 7,
     10 * MIB - 1, 10 * MIB, 11 * MIB, 33 * MIB + 5]
)  # fmt: skip


@pytest.mark.parametrize(
    ("tensors", "mib"),
    [
        ([], 0),
        ([(1, 1)], 2),  # of small tensors two MiB
        ([(MIB, 2)], 2),
        ([(MIB, 3)], 4),
        ([(512, 4096)], 2),
        ([(513, 2049)], 4),  # 1024 each: 2048 of them fit
        ([(8 * MIB, 1)], 20),
        ([(8 * MIB, 2)], 20),
        ([(8 * MIB, 3)], 40),
        ([(8 * MIB, 2), (4 * MIB, 1)], 20),  # the rest of a segment
        ([(8 * MIB, 2), (5 * MIB, 1)], 40),
        ([(9 * MIB, 2), (1 * MIB, 1)], 22),  # small ones do not go there
        ([(10 * MIB - 1, 2)], 20),  # nothing is left of the first one's segment
        ([(10 * MIB, 2)], 20),  # from here on each has its own
        ([(11 * MIB, 2)], 24),
        ([(32 * MIB, 3)], 96),
        ([(11 * MIB + 1, 1)], 12),
        # what is left, 12 and then 4 MiB: the tightest is taken
        ([(8 * MIB, 2), (8 * MIB, 1), (3 * MIB, 1), (12 * MIB, 1)], 40),
    ],
)
def test_by_hand(tensors: list[tuple[int, int]], mib: int) -> None:
    assert reserved_bytes(tuple(tensors)) == mib * MIB


def test_a_rest_of_a_mib_or_less_is_lost() -> None:
    """A 19 MiB tensor leaves no block behind, because it has a segment of its own; 9.5 + 9.5 do:
    1 MiB, which nothing takes.
    """
    half = 19 * MIB // 2
    assert reserved_bytes(((half, 2), (MIB + 512, 1))) == 40 * MIB
    assert reserved_bytes(((9 * MIB, 2), (MIB + 512, 1))) == 20 * MIB


@given(st.lists(SIZES, max_size=30))
def test_as_a_list_of_segments_says(sizes: list[int]) -> None:
    tensors = tuple((size, 1) for size in sizes)
    assert reserved_bytes(tensors) == slowly(sizes) >= sum(sizes)


def slowly(sizes: list[int]) -> int:
    """The same from segments as lists of blocks, each (size, free)."""
    segments: list[tuple[bool, list[list[int]]]] = []
    for size in sizes:
        small, need = size <= MIB, (size + 511) // 512 * 512
        blocks = [b for kind, found in segments for b in found if kind == small and b[1]]
        fitting = sorted((b for b in blocks if b[0] >= need), key=lambda b: b[0])
        if not fitting:
            whole = 2 * MIB if small else 20 * MIB
            if need >= 10 * MIB:
                whole = (need + 2 * MIB - 1) // (2 * MIB) * 2 * MIB
            segments.append((small, [[whole, 1]]))
            fitting = segments[-1][1]
        block = fitting[0]
        rest = block[0] - need
        if rest >= 512 if small else rest > MIB:
            of = next(found for _, found in segments if any(b is block for b in found))
            block[0] = need
            of.append([rest, 1])
        block[1] = 0
    return sum(b[0] for _, found in segments for b in found)
