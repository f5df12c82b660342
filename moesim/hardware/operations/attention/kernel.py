"""The time of attention of ``batch`` requests: start, memory, and tiles of queries on the card.

``t = start + split + write + (mem^p + busy^p)^(1/p)``. ``mem`` moves queries, keys, values and
results, at the L2's speed where all of it fits there; ``write`` appends new keys and values to the
cache. ``busy`` is the busiest multiprocessor: a tile of queries takes ``item``, and each key that
it walks takes its products and exponentials, or a multiprocessor's own reading rate. Where single
queries do not fill the card, kernels split the keys over idle multiprocessors and merge the parts
(flash-decoding): ``split`` is ``combine`` + parts x ``merge``. A split that costs more than it
saves is priced for larger batches too, so that the price is monotone.

One call of prompts and of single queries beside them walks the tiles of both, on whichever
multiprocessor is free, and overlaps the traffic of both with that. Its single queries take whole
tiles, are not swapped and not split. Where heads that share keys have tiles of their own, they read
these keys one after the other, since heads are the outermost order of FlashAttention 2's blocks
(from memory of its code): the first one from memory, later ones as fast as multiprocessors walk,
which is how fast tables of keys in the L2 are (``joint_ns``).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.card import Card
from moesim.hardware.operations.attention.tiles import (
    PACKED,
    ROWS,
    AttentionShape,
    QueryTiles,
    query_tiles,
)
from moesim.hardware.operations.products.kernel import FEWEST
from moesim.hardware.prices.arrays import NS, Floats
from moesim.hardware.prices.calibrated import Layout

FULL = 0.8
"""Share of the multiprocessors above which FlashAttention does not split."""
RESIDENT_POWER = 6
"""How sharply a working set stops to fit the L2 (a prior)."""
ROUNDING = 1e-9
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class AttentionNumbers:
    """The fitted numbers; fractions are of the datasheet's values, as in ``ExpertNumbers``.

    ``l2_speed``: of the L2 over memory. ``softmax``: operations of one exponential. ``single``:
    what one multiprocessor can read, over its share of the bandwidth.
    """

    start_ns: float = 10_000.0
    bandwidth: float = 0.9
    l2: float = 0.8
    l2_speed: float = 2.0
    compute: float = 0.6
    softmax: float = 100.0
    item_ns: float = 3_000.0
    single: float = 2.0
    overlap: float = 2.0
    combine_ns: float = 0.0
    merge_ns: float = 0.0
    reorder_ns: float = 0.0

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The numbers' names, in order."""
        return tuple(field.name for field in fields(cls))


class AttentionTerms(NamedTuple):
    """Nanoseconds of n calls, each [n]; ``memory`` and ``busy`` overlap."""

    start: Floats
    split: Floats
    write: Floats
    memory: Floats
    busy: Floats
    total: Floats


class Calls(NamedTuple):
    """Calls of this ``shape`` on a card, as far as no fitted number says: their ``tiles``, which
    are ``split``, and how many keys the busiest multiprocessor has ``walked`` in ``waves``.
    """

    shape: AttentionShape
    tiles: QueryTiles
    split: Mask
    waves: Floats
    walked: Floats


def laid_out(layout: Layout, shape: AttentionShape, card: Card) -> tuple[Calls, ...]:
    """The calls, and those of smaller batches that may be dearer, as they are split."""
    tiles = query_tiles(layout, shape)
    if card.multiprocessors < FEWEST:
        tiles = tiles._replace(rows=shape.queries * shape.heads / tiles.tiles)
    if not tiles.splits.any():
        return (_calls(shape, tiles, card),)
    full = np.maximum(np.floor(FULL * card.multiprocessors / tiles.tiles), 1)
    dear = np.maximum(card.multiprocessors * tiles.block / (shape.context * tiles.tiles), 1)
    smaller = (np.minimum(shape.batch, limit) for limit in (full, dear))
    shapes = (shape, *(shape._replace(batch=batch) for batch in smaller))
    return tuple(_calls(one, tiles, card) for one in shapes)


def _calls(shape: AttentionShape, tiles: QueryTiles, card: Card) -> Calls:
    items = shape.batch * tiles.tiles
    split = tiles.splits & (items <= FULL * card.multiprocessors * (1 + ROUNDING))
    waves = np.where(split, 1.0, np.ceil(items / card.multiprocessors - ROUNDING))
    return Calls(shape, tiles, split, waves, _walked(shape, tiles, split, waves, card))


def terms_of(numbers: AttentionNumbers, laid: tuple[Calls, ...], card: Card) -> AttentionTerms:
    """The terms of each call that is ``laid_out``; the dearest of its own batch and of smaller
    ones.
    """
    own, *others = (_terms(numbers, calls, card) for calls in laid)
    for other in others:
        more = other.total > own.total
        own = AttentionTerms(*(np.where(more, b, a) for a, b in zip(own, other, strict=True)))
    return own


def attention_terms(
    numbers: AttentionNumbers, layout: Layout, shape: AttentionShape, card: Card
) -> AttentionTerms:
    """The terms of each call; the dearest of its own batch and of smaller ones that are split."""
    return terms_of(numbers, laid_out(layout, shape, card), card)


def attention_ns(
    numbers: AttentionNumbers, layout: Layout, shape: AttentionShape, card: Card
) -> Floats:
    """The time of each call in nanoseconds."""
    return attention_terms(numbers, layout, shape, card).total


def _terms(numbers: AttentionNumbers, calls: Calls, card: Card) -> AttentionTerms:
    shape, tiles, split, waves, walked = calls
    busy = walked * _key_ns(numbers, shape, tiles, card) + numbers.item_ns * waves
    memory, write = _moved(numbers, shape, card)
    together = _overlapped(memory, busy, numbers.overlap)
    extra = split * (numbers.combine_ns + numbers.merge_ns * shape.context / walked)
    extra = extra + numbers.reorder_ns * (tiles.reorders & (shape.batch > 1))
    start = np.full(len(walked), numbers.start_ns)
    return AttentionTerms(start, extra, write, memory, busy, start + extra + write + together)


def joint_ns(
    numbers: AttentionNumbers,
    layout: Layout,
    shapes: tuple[AttentionShape, AttentionShape],
    decoding: AttentionNumbers,
    card: Card,
) -> Floats:
    """The time of calls of prompts and, beside them, of single queries (``shapes``) in nanoseconds.

    ``numbers`` and ``layout`` are the prompts'; ``decoding`` are those of single queries alone,
    which know better how fast cached keys are read.
    """
    prompts, single = shapes
    alone = _terms(numbers, _calls(prompts, query_tiles(layout, prompts), card), card)
    busy = sum(_evenly(numbers, layout, shape, card) for shape in shapes)
    memory, write = _moved(decoding, single, card)
    memory, busy = alone.memory + memory, np.maximum(alone.busy, busy)
    sharing = query_tiles(layout, single, beside=True).tiles / single.kv_heads
    first = _overlapped(memory, busy / sharing, numbers.overlap)
    again = _overlapped(_again(decoding, single, card), busy / sharing, numbers.overlap)
    together = first + (sharing - 1) * again
    return numbers.start_ns + alone.write + write + together


def _again(numbers: AttentionNumbers, single: AttentionShape, card: Card) -> Floats:
    """Time of the traffic of one more head over the same keys, of all key-value heads: nothing
    where one of them, of all requests, stays in the L2 until the next head comes.
    """
    head = 2 * single.batch * single.context * single.head_dim * single.element_bytes
    missed = 1 - 1 / (1 + (head / (numbers.l2 * card.l2)) ** RESIDENT_POWER)
    return head * single.kv_heads * missed * NS / (card.bandwidth * numbers.bandwidth)


def _evenly(numbers: AttentionNumbers, layout: Layout, shape: AttentionShape, card: Card) -> Floats:
    """What the tiles of a call keep each multiprocessor busy for, spread evenly over all."""
    tiles = query_tiles(layout, shape, beside=True)
    walked = np.where(shape.queries > 1, shape.keys + ROWS / 2, shape.context)
    each = walked * _key_ns(numbers, shape, tiles, card) + numbers.item_ns
    return shape.batch * tiles.tiles / card.multiprocessors * each


def waiting_ns(
    numbers: AttentionNumbers,
    layout: Layout,
    shape: AttentionShape,
    longest: Floats,
    card: Card,
    *,
    beside: bool = False,
) -> Floats:
    """What single queries wait for the ``longest`` context [n] of a call, beyond equal requests of
    the same mean.

    Tiles begin in the order of heads, then requests (FlashAttention 2's grid, from memory of its
    code), wherever a multiprocessor becomes free: the last head's tile of the longest request has
    half of the batch behind it. While these and as many as there are multiprocessors are worked on,
    it gets as far as they do in the mean; the rest it walks alone. Packed kernels
    (FlashAttention 3, trtllm) share keys out by lengths.
    """
    tiles = query_tiles(layout, shape, beside=beside)
    items = shape.batch * tiles.tiles
    split = tiles.splits & (items <= FULL * card.multiprocessors * (1 + ROUNDING))
    parts = shape.context / _walked(shape, tiles, split, np.ones_like(items), card)
    behind = np.minimum(items * parts, card.multiprocessors + shape.batch * parts / 2)
    walked = shape.context * np.maximum(behind / card.multiprocessors, 1.0)
    alone = np.maximum(longest - walked, 0.0) / parts * (layout != PACKED)
    return np.asarray(alone * _key_ns(numbers, shape, tiles, card))


def _overlapped(one: Floats, other: Floats, power: float) -> Floats:
    """The ``power`` norm of two times."""
    larger, smaller = np.maximum(one, other), np.minimum(one, other)
    return np.asarray(larger * (1 + (smaller / larger) ** power) ** (1 / power))


def _walked(
    shape: AttentionShape, tiles: QueryTiles, split: Mask, waves: Floats, card: Card
) -> Floats:
    """Keys that the busiest multiprocessor walks; blocks on the diagonal are walked whole."""
    many = shape.queries > 1
    average = np.where(many, shape.keys + ROWS / 2, shape.context)
    last = np.where(many, ROWS * np.ceil(shape.context / ROWS), shape.context)
    part = shape.context * shape.batch * tiles.tiles / card.multiprocessors
    part = np.maximum(part, np.minimum(shape.context, tiles.block))
    return np.where(split, part, np.maximum(waves * average, last))


def _key_ns(
    numbers: AttentionNumbers, shape: AttentionShape, tiles: QueryTiles, card: Card
) -> Floats:
    """Time that one multiprocessor takes for one key of a tile."""
    operations = tiles.rows * (4 * shape.head_dim + numbers.softmax)
    computed = operations / (shape.peak * numbers.compute)
    size = 2 * shape.head_dim * shape.element_bytes
    read = size / (card.bandwidth * numbers.bandwidth * numbers.single)
    return card.multiprocessors * NS * np.maximum(computed, read)


def _moved(numbers: AttentionNumbers, shape: AttentionShape, card: Card) -> tuple[Floats, Floats]:
    """Time of the traffic, and of appending to the cache."""
    size = shape.batch * shape.head_dim * shape.element_bytes
    new, old = shape.queries * shape.kv_heads, (shape.context - shape.queries) * shape.kv_heads
    appended = size * 4 * new
    fresh = size * 2 * (shape.queries * shape.heads + np.where(shape.queries > 1, new, 0.0))
    cached = size * 2 * np.maximum(old, 0.0)
    share = (appended + fresh + cached) / (numbers.l2 * card.l2)
    saved = (1 - 1 / numbers.l2_speed) / (1 + share**RESIDENT_POWER)
    rate = NS / (card.bandwidth * numbers.bandwidth)
    memory = (fresh * (1 - saved) + cached * np.where(shape.warm, 1 - saved, 1.0)) * rate
    return memory, appended * (1 - saved) * rate
