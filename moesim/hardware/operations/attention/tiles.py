"""The tiles of queries that attention kernels take: a rule of the kernel, not of the card.

Layouts, inferred from tables and from FlashAttention's code: ``packed`` puts the query heads of one
key-value head into one tile (FlashAttention 3, trtllm decode); ``swapped`` does so for single
queries only, which it reorders first, and splits only then (FlashAttention 2, trtllm prefill);
``swapped-narrow`` has tiles of 64 rows from a head size of 128 on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.calibrated import Layout

LAYOUTS: tuple[Layout, ...] = ("packed", "swapped", "swapped-narrow")
PACKED: Layout = "packed"
ROWS, NARROW, WIDE_HEAD = 128, 64, 128
"""Rows of a tile, of a narrow or half-full one, and the head size from which tiles are narrow."""
BLOCK_ELEMENTS = 128 * 128
"""Keys x head size of a block, the least part of a split, in FlashAttention 2."""
BLOCKS = (64, 256)


class AttentionShape(NamedTuple):
    """Shapes of n calls, each [n].

    ``queries`` of each of ``batch`` requests; the last one sees ``context`` keys, the average one
    ``keys``. ``warm``: whether cached keys may still lie in the L2; new ones may in any case.
    """

    batch: Floats
    queries: Floats
    context: Floats
    keys: Floats
    heads: Floats
    kv_heads: Floats
    head_dim: Floats
    element_bytes: Floats
    peak: Floats
    warm: NDArray[np.bool_]


class QueryTiles(NamedTuple):
    """Tiles of one request, the rows that each computes, keys of a block, and what a layout does.

    ``splits``: keys are split where the card is not full; ``reorders``: queries are moved first.
    """

    tiles: Floats
    rows: Floats
    block: Floats
    splits: NDArray[np.bool_]
    reorders: NDArray[np.bool_]


def query_tiles(layout: Layout, shape: AttentionShape, *, beside: bool = False) -> QueryTiles:
    """The tiles of each call; ``beside``: of calls that hold longer queries too, in which single
    ones are not swapped.
    """
    group, alone = shape.heads / shape.kv_heads, (shape.queries == 1) & (not beside)
    packed = layout == PACKED
    packs = alone | packed
    rows = shape.queries * np.where(packs, group, 1.0)
    narrow = (layout == "swapped-narrow") & (shape.head_dim >= WIDE_HEAD)
    most = np.where(narrow, float(NARROW), float(ROWS))
    tiles = np.where(packs, shape.kv_heads, shape.heads) * np.ceil(rows / most)
    computed = np.minimum(most, NARROW * np.ceil(rows / NARROW))
    block = np.clip(2.0 ** np.round(np.log2(BLOCK_ELEMENTS / shape.head_dim)), *BLOCKS)
    block = np.full(len(group), float(ROWS)) if packed else block
    swaps = alone & (group > 1)
    splits = (alone if packed else swaps) & (shape.context > block)
    return QueryTiles(
        tiles, computed, block, splits, swaps & (shape.kv_heads > 1) & ~np.bool_(packed)
    )
