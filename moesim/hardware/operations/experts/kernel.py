"""The time of a grouped expert kernel from rows per expert: the formula that fits fill in.

``t = start + activation traffic + sum over the two products of (mem^p + comp^p + cache^p)^(1/p)``,
where a product reads the matrices of the experts that have rows, and once more a further group of
row tiles where the matrix does not stay in the L2 cache (``mem``), computes whole tiles (``comp``)
and takes its operands from the L2 cache: a matrix for every row tile, the rows for every column
tile (``cache``). Which tiles a kernel takes is its family's rule (``tiles``) and is not fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.card import Card
from moesim.hardware.operations.experts.tiles import CUTLASS, TRTLLM, Tiles
from moesim.hardware.prices.arrays import NS, Floats, Ints, group_sums
from moesim.hardware.prices.calibrated import Family

CUTLASS_ROWS = 32
"""Average rows an expert up to which the SM120 kernel overlaps reading and computing well."""
CUTLASS_OVERLAP = 8.0
POWER = 8
"""How sharply ``slow`` sets in as an expert outgrows the L2 cache."""
TRITON_SHARE = 0.5
"""Share of the L2 cache beyond which Triton's kernels slow down: in an A100 or H100 it has two
partitions, and what all multiprocessors read is held in both."""
TRTLLM_PADDING = 128
"""Multiple to which trtllm's weights are padded."""


@dataclass(frozen=True)
class ExpertNumbers:
    """The fitted numbers. Fractions are of the datasheet's values; all but ``start_ns`` are plain.

    ``start_ns`` of the whole layer; ``bandwidth`` of weights, ``compute`` of the peak,
    ``activation_bandwidth``; ``overlap`` the exponent p (large: the longer of reading and computing
    alone counts); ``l2`` the cache that matrices share, times the datasheet's; ``wide`` the share
    of the bandwidth left at the wide column tile; ``tail`` the loss of a kernel with few tiles;
    ``slow`` the loss of rate for experts beyond the L2 cache; ``l2_bandwidth`` the rate of the L2
    cache, times the memory's.
    """

    start_ns: float = 20_000.0
    bandwidth: float = 0.9
    compute: float = 0.65
    overlap: float = 4.0
    activation_bandwidth: float = 0.5
    l2: float = 1.5
    wide: float = 0.95
    tail: float = 0.1
    slow: float = 0.3
    l2_bandwidth: float = 3.0

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The numbers' names, in order."""
        return tuple(field.name for field in fields(cls))


@dataclass(frozen=True)
class Work:
    """What n kernel launches do, for one tile rule; every array is [n].

    ``average`` rows of the ``distinct`` experts that have some.
    ``passes`` are the sums over experts of the further groups of row tiles, ``row_tiles`` those of
    the row tiles, ``element_bytes`` those of a weight, ``peak`` operations a second.
    """

    family: Family
    total_rows: Ints
    distinct: Ints
    row_tiles: Ints
    passes: Ints
    tiles: Tiles
    average: Floats
    hidden: Ints
    inter: Ints
    gated: NDArray[np.bool_]
    element_bytes: Floats
    activation_bytes: Floats
    peak: Floats


class Terms(NamedTuple):
    """The terms of a price in nanoseconds, each [n]."""

    start: Floats
    activations: Floats
    up_memory: Floats
    up_compute: Floats
    up_cache: Floats
    down_memory: Floats
    down_compute: Floats
    down_cache: Floats
    up: Floats
    down: Floats

    @property
    def total(self) -> Floats:
        """The price."""
        return self.start + self.activations + self.up + self.down


def terms(numbers: ExpertNumbers, work: Work, card: Card) -> Terms:
    """The price of each launch, by its terms."""
    first = np.where(work.gated, 2, 1) * work.inter
    moved = work.total_rows * (2 * work.hidden + first + work.inter) * work.activation_bytes
    activations = moved * (NS / (card.bandwidth * numbers.activation_bandwidth))
    slow = 1 + numbers.slow * _beyond_l2(work, first, card)
    up = _product(numbers, work, card, work.hidden, first, slow)
    down = _product(numbers, work, card, work.inter, work.hidden, slow)
    start = np.full(work.total_rows.shape, numbers.start_ns)
    return Terms(start, activations, *up[:3], *down[:3], up[3], down[3])


def _beyond_l2(work: Work, first: Ints, card: Card) -> Floats:
    """How far an expert's weights outgrow the L2 cache: 0 far below it, 1 far above."""
    ratio = work.hidden * (first + work.inter) * work.element_bytes / card.l2
    if work.family == CUTLASS:
        return np.sqrt(ratio)
    share = 1.0 if work.family == TRTLLM else TRITON_SHARE
    return 1 / (1 + (ratio / share) ** -POWER)


def _product(
    numbers: ExpertNumbers, work: Work, card: Card, depth: Ints, width: Ints, slow: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Reading, computing, the L2 cache's part and all together, in nanoseconds, of one product."""
    if work.family == TRTLLM:
        depth, width = _padded(depth), _padded(width)
    matrix = depth * width * work.element_bytes
    held = (matrix / (card.l2 * numbers.l2)) ** 2
    miss = held / (1 + held)
    columns = -(-width // work.tiles.columns)
    launched = np.maximum(work.row_tiles * columns, 1)
    bandwidth = card.bandwidth * numbers.bandwidth * np.where(work.tiles.wide, numbers.wide, 1.0)
    memory = (work.distinct + miss * work.passes) * matrix * (NS / bandwidth)
    memory = memory * (1 + numbers.tail * card.multiprocessors / launched)
    computed = work.row_tiles * columns * work.tiles.rows * work.tiles.columns
    compute = 2.0 * computed * depth * NS / (work.peak * numbers.compute) * slow
    rows = work.total_rows * columns * depth * work.activation_bytes
    taken = work.row_tiles * matrix + rows
    cache = taken * (NS / (card.bandwidth * numbers.l2_bandwidth))
    power = np.full(matrix.shape, numbers.overlap)
    if work.family == CUTLASS:
        late = 1 + (numbers.overlap - 1) * (1 - miss)
        power = np.where(work.average <= CUTLASS_ROWS, CUTLASS_OVERLAP, late)
    return memory, compute, cache, _norm(memory, compute, cache, power)


def _padded(size: Ints) -> Ints:
    return -(-size // TRTLLM_PADDING) * TRTLLM_PADDING


def _norm(memory: Floats, compute: Floats, cache: Floats, power: Floats) -> Floats:
    """The sum of the powers, to the inverse of ``power``, without overflow."""
    largest = np.maximum(np.maximum(np.maximum(memory, compute), cache), 1e-9)
    parts = sum((part / largest) ** power for part in (memory, compute, cache))
    return np.asarray(largest * parts ** (1 / power), np.float64)


def ragged_work(counts: Ints, members: Ints, tile: Tiles) -> tuple[Ints, Ints]:
    """Row tiles and further passes of launches with ``members[i]`` of the ``counts`` each."""
    number = -(-counts // np.repeat(tile.rows, members))
    again = np.maximum(-(-number // np.repeat(tile.group, members)) - 1, 0)
    return group_sums(number, members), group_sums(again, members)


def even_work(total: Ints, distinct: Ints, tile: Tiles) -> tuple[Ints, Ints]:
    """Row tiles and further passes where ``total`` rows are spread evenly over ``distinct``."""
    number = np.maximum(distinct, 1)
    low, more = total // number, total % number
    few, many = -(-low // tile.rows), -(-(low + 1) // tile.rows)
    again_few = np.maximum(-(-few // tile.group) - 1, 0)
    again_many = np.maximum(-(-many // tile.group) - 1, 0)
    return few * (number - more) + many * more, again_few * (number - more) + again_many * more
