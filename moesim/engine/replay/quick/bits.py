"""Launches of passes that take few rows, found by bits: what a row chooses in a layer is a word or
some, a bit an expert, and how many rows choose an expert is a number whose bits lie in planes, one
for each power of two. All experts of all layers are counted at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.case import Ints
from moesim.engine.replay.spans import IDS, SPANS
from moesim.runtime.compiled import njit, record, types
from moesim.runtime.words import ones_of
from moesim.trace.routing import NO_EXPERT

WORD = 64
"""Experts of a word."""
PLANES = 9
MOST_ROWS = (1 << PLANES) - 1
"""Rows of a pass at most, so that no expert is chosen more often than planes can tell."""
TOGETHER = 8
"""Rows that are added at once."""
MOST_WORDS = 1 << 23
"""Words of a trace that are kept at most."""
UNTOLD = -1
"""The rows of a launch that bits do not tell."""


class Tiles(NamedTuple):
    """The rows of a ``tile`` and the tiles of a ``group`` by the rows of a launch int64[n], or,
    ``by_average``, its average rows.
    """

    tile: Any
    group: Any
    by_average: Any


class Bits(NamedTuple):
    """Choices of all rows of the trace, ``masks`` uint64[rows, launches x words], where a launch is
    of a (layer, GPU) and has so many ``words``; none: they are not known.
    """

    masks: Any
    words: Any


_INT, _FLAT = types.int64, types.int64[::1]
_WORDS, _LINE = types.uint64[:, ::1], types.uint64[::1]
_SHAPES, _PLANES, _COUNTED = types.int64[:, :, ::1], types.uint64[:, :, ::1], types.int64[:, ::1]
TILES = record(Tiles, _FLAT, _FLAT, types.boolean)
BITS = record(Bits, _WORDS, _INT)
UNKNOWN = Bits(np.zeros((0, 0), np.uint64), 1)
_NONE, _ONE = np.uint64(0), np.uint64(1)


@njit(types.boolean(IDS, types.int64[:, ::1], _FLAT, _INT, _INT, _WORDS), cache=True)
def _set_bits(ids: Any, home: Any, layers: Any, held: Any, gpus: int, masks: Any) -> bool:
    """Fill in the ``masks`` of ``layers``; whether no row chooses an expert twice."""
    words = masks.shape[1] // (len(layers) * gpus)
    for row in range(len(ids)):
        for at in range(len(layers)):
            for k in range(ids.shape[2]):
                expert = ids[row, layers[at], k]
                if expert == NO_EXPERT:
                    continue
                place = home[layers[at], expert]
                inside = place % held
                word = (at * gpus + place // held) * words + inside // WORD
                bit = _ONE << np.uint64(inside % WORD)
                if masks[row, word] & bit:
                    return False
                masks[row, word] |= bit
    return True


def bits_of(ids: Any, home: Ints, layers: Ints, held: int, gpus: int) -> Bits:
    """The choices of a trace's ``ids`` uint16[rows, MoE layers, k] in ``layers``, where ``home``
    says the places of experts, of which each GPU has ``held``; ``UNKNOWN`` where they are too many,
    or a row chooses one twice.
    """
    words = -(-held // WORD)
    width = len(layers) * gpus * words
    if len(ids) * width > MOST_WORDS:
        return UNKNOWN
    masks = np.zeros((len(ids), width), np.uint64)
    return Bits(masks, words) if _set_bits(ids, home, layers, held, gpus, masks) else UNKNOWN


@njit(types.void(*[_LINE] * 8, *[_LINE] * 4), cache=True, _nrt=False)
def _add_eight(
    a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any,
    ones: Any, twos: Any, fours: Any, eights: Any,
) -> None:  # fmt: skip
    """Add eight rows' bits to the three lowest planes; what is carried are ``eights``."""
    for at in range(len(ones)):
        one, two, four = ones[at], twos[at], fours[at]
        half = one ^ a[at]
        two_a = (one & a[at]) | (half & b[at])
        one = half ^ b[at]
        half = one ^ c[at]
        two_b = (one & c[at]) | (half & d[at])
        one = half ^ d[at]
        half = two ^ two_a
        four_a = (two & two_a) | (half & two_b)
        two = half ^ two_b
        half = one ^ e[at]
        two_a = (one & e[at]) | (half & f[at])
        one = half ^ f[at]
        half = one ^ g[at]
        two_b = (one & g[at]) | (half & h[at])
        ones[at] = half ^ h[at]
        half = two ^ two_a
        four_b = (two & two_a) | (half & two_b)
        twos[at] = half ^ two_b
        half = four ^ four_a
        eights[at] = (four & four_a) | (half & four_b)
        fours[at] = half ^ four_b


@njit(types.void(_LINE, _LINE), cache=True, _nrt=False)
def _carry(plane: Any, carried: Any) -> None:
    """Add bits to a plane; what is ``carried`` to the next one takes their place."""
    for at in range(len(plane)):
        both = plane[at] & carried[at]
        plane[at] ^= carried[at]
        carried[at] = both


@njit(types.void(_WORDS, _FLAT, _INT, _INT, _WORDS), cache=True, _nrt=False)
def _add_up(masks: Any, rows: Any, begin: int, end: int, planes: Any) -> None:
    """Let ``planes`` uint64[PLANES + 1, width], of which the last one is for what is carried, be
    how many of the ``rows`` begin:end choose each expert.
    """
    for plane in range(len(planes)):
        for word in range(planes.shape[1]):
            planes[plane, word] = _NONE
    carried, at = planes[-1], begin
    while at < end:
        plane = 0
        if at + TOGETHER <= end:
            _add_eight(
                masks[rows[at]], masks[rows[at + 1]], masks[rows[at + 2]], masks[rows[at + 3]],
                masks[rows[at + 4]], masks[rows[at + 5]], masks[rows[at + 6]], masks[rows[at + 7]],
                planes[0], planes[1], planes[2], carried,
            )  # fmt: skip
            at, plane = at + TOGETHER, 3
        else:
            own = masks[rows[at]]
            for word in range(len(own)):
                carried[word] = own[word]
            at += 1
        while (at - begin) >> plane > 0:
            _carry(planes[plane], carried)
            plane += 1


@njit(types.void(_WORDS, _WORDS, _INT), cache=True, _nrt=False)
def _unite(planes: Any, some: Any, number: int) -> None:
    """Let the first lines of ``some``, so many, be who has a bit in one of the planes so far."""
    for plane in range(number):
        for at in range(planes.shape[1]):
            before = some[plane - 1, at] if plane > 0 else _NONE
            some[plane, at] = before | planes[plane, at]


@njit(types.void(_WORDS, _INT), cache=True, _nrt=False)
def _count_bits(planes: Any, number: int) -> None:
    """Let each word of the first planes, so many, be how many bits it has."""
    for plane in range(number):
        line = planes[plane]
        for at in range(len(line)):
            line[at] = ones_of(line[at])


@njit(types.boolean(_FLAT, _FLAT, _INT, TILES, _FLAT), cache=True, _nrt=False)
def _shape_of(bits: Any, below: Any, number: int, tiles: Any, shape: Any) -> bool:
    """Fill in the ``shape`` of a launch whose experts have so many ``bits`` int64[number] in each
    plane, and of which ``below[n]`` have one below plane n, int64[number + 1]; whether it can be
    told.
    """
    total, highest, experts = 0, 0, below[number]
    for plane in range(number):
        total += bits[plane] << plane
        highest = plane if bits[plane] > 0 else highest
    at = -(-total // experts) if tiles.by_average and experts else total
    size, most = tiles.tile[at], (2 << highest) - 1
    shape[0], shape[1], shape[2], shape[3] = total, experts, experts, 0
    if most <= size:
        return True
    power = 0
    while 1 << power < size:
        power += 1
    if 1 << power != size or (tiles.group[at] > 1 and most > size * tiles.group[at]):
        return False
    shape[2] = below[power]  # whoever has a last tile that is not full
    for plane in range(power, number):
        shape[2] += bits[plane] << (plane - power)
    shape[3] = shape[2] - experts if tiles.group[at] == 1 else 0
    return True


@njit(types.boolean(SPANS, _INT, _INT), cache=True, _nrt=False)
def _takes(spans: Any, parts: int, step: int) -> bool:
    """Whether a pass has a few rows by themselves, which decode where tokens are told apart."""
    first, last = parts * step, parts * step + parts
    rows = spans.single_at[last] - spans.single_at[first]
    alone = spans.single_at[last - 1] == spans.single_at[first]
    return bool(alone and 0 < rows <= MOST_ROWS and spans.spans_at[first] == spans.spans_at[last])


def tell_shapes(bits: Bits, spans: Any, tiles: Tiles, told: Ints) -> None:
    """Fill in the shapes int64[launches, passes, COLUMNS] of launches, ``UNTOLD`` rows where bits
    do not tell.
    """
    planes = np.zeros((2, PLANES + 1, bits.masks.shape[1]), np.uint64)
    _tell(bits, spans, tiles, told, planes, np.zeros((2, PLANES + 1), np.int64))


@njit(types.void(BITS, SPANS, TILES, _SHAPES, _PLANES, _COUNTED), cache=True, _nrt=False)
def _tell(bits: Any, spans: Any, tiles: Any, told: Any, room: Any, counted: Any) -> None:
    """The same, with ``room`` for planes, and for who has a bit in them, and for how many."""
    launches, passes, words = told.shape[0], told.shape[1], bits.words
    parts = (len(spans.single_at) - 1) // passes
    planes, some, each, below = room[0], room[1], counted[0], counted[1]
    for step in range(passes):
        for launch in range(launches):
            told[launch, step, 0] = UNTOLD
        if not _takes(spans, parts, step):
            continue
        begin, end, number = spans.single_at[parts * step], spans.single_at[parts * step + parts], 0
        _add_up(bits.masks, spans.single, begin, end, planes)
        while (end - begin) >> number > 0:
            number += 1
        _unite(planes, some, number)
        _count_bits(planes, number)
        _count_bits(some, number)
        for launch in range(launches):
            for plane in range(number):
                each[plane] = below[plane + 1] = 0
                for at in range(launch * words, launch * words + words):
                    each[plane] += np.int64(planes[plane, at])
                    below[plane + 1] += np.int64(some[plane, at])
            if not _shape_of(each, below, number, tiles, told[launch, step]):
                told[launch, step, 0] = UNTOLD
