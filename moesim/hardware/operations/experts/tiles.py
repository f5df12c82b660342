"""The tiles that families of expert kernels take: a rule of the kernel, not of the card.

The rules of Triton are those of vLLM's default tile function; ``trtllm`` and ``cutlass`` (SM120)
are inferred from measured times, so a new version may differ. ``marlin`` is the rule of vLLM's and
SGLang's fused Marlin layers (marlin_moe.py of vLLM 0.33.0): the least tile that the average rows
fill to less than 0.9, in whole rows. These three look at the average of the experts that have some:
a launch of one expert with many rows takes large tiles, though the layer has other experts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.prices.arrays import Floats, Ints
from moesim.hardware.prices.calibrated import Family
from moesim.hardware.row_tiles import triton

TRITON: Family = "triton"
TRITON_OLDER: Family = "triton-older"
TRTLLM: Family = "trtllm"
CUTLASS: Family = "cutlass"
MARLIN: Family = "marlin"
TRITON_GROUPED_TOKENS = 128
TRITON_NARROW_TOKENS = 64
TRTLLM_SMALL, TRTLLM_LARGE, TRTLLM_STEP = 8, 128, 64
MARLIN_ROWS = {8: 7, 16: 14, 32: 28, 48: 43}
"""The average rows that a tile serves at most; beyond the last, tiles have ``MARLIN_LARGEST``."""
MARLIN_LARGEST, MARLIN_COLUMNS = 64, 256


class Launch(NamedTuple):
    """What a tile rule looks at: tokens, experts of the layer, and average rows of those that have
    some; each [n].
    """

    tokens: Ints
    experts: Ints
    average: Floats


class Tiles(NamedTuple):
    """Rows of a tile, row tiles that share one read of the weights, columns; each [n].

    ``wide`` says where the column tile is the family's wide one.
    """

    rows: Ints
    group: Ints
    columns: Ints
    wide: NDArray[np.bool_]

    def where(self, mask: NDArray[np.bool_]) -> Tiles:
        """The tiles of the launches in ``mask``."""
        return Tiles(self.rows[mask], self.group[mask], self.columns[mask], self.wide[mask])


def tiles_of(family: Family, tokens: Ints, experts: Ints, average: Floats) -> Tiles:
    """The tiles for ``tokens`` over ``experts``, of which those with rows have ``average``; all
    [n].
    """
    return FAMILIES[family](Launch(tokens, experts, average))


def _triton(launch: Launch) -> Tiles:
    group = np.where(launch.tokens > TRITON_GROUPED_TOKENS * launch.experts, 16, 1)
    wide = launch.tokens > TRITON_NARROW_TOKENS
    return Tiles(triton(launch.tokens), group, np.where(wide, 128, 64), wide)


def _triton_older(launch: Launch) -> Tiles:
    small = launch.tokens <= launch.experts
    rows, group = np.where(small, 16, 64), np.where(small, 1, 8)
    return Tiles(rows, group, np.where(small, 32, 64), ~small)


def _trtllm(launch: Launch) -> Tiles:
    steps = (np.ceil(launch.average / TRTLLM_STEP) * TRTLLM_STEP).astype(np.int64)
    rows = np.where(launch.average <= TRTLLM_LARGE, TRTLLM_LARGE, np.maximum(steps, 1))
    rows = np.where(launch.average <= TRTLLM_SMALL, TRTLLM_SMALL, rows)
    return Tiles(rows, np.ones_like(rows), np.full_like(rows, 128), np.zeros_like(rows, bool))


def _cutlass(launch: Launch) -> Tiles:
    rows = np.full(np.shape(launch.tokens), 32, np.int64)
    return Tiles(rows, np.full_like(rows, 2**40), np.full_like(rows, 128), launch.average > rows)


def _marlin(launch: Launch) -> Tiles:
    rows = np.full(np.shape(launch.average), MARLIN_LARGEST, np.int64)
    for size, most in reversed(MARLIN_ROWS.items()):
        rows = np.where(launch.average <= most, size, rows)
    columns = np.full_like(rows, MARLIN_COLUMNS)
    return Tiles(rows, np.ones_like(rows), columns, np.zeros_like(rows, bool))


FAMILIES: dict[Family, Callable[[Launch], Tiles]] = {
    TRITON: _triton,
    TRITON_OLDER: _triton_older,
    TRTLLM: _trtllm,
    CUTLASS: _cutlass,
    MARLIN: _marlin,
}
"""The rule of each family."""
BY_AVERAGE = {TRTLLM, CUTLASS, MARLIN}
"""Families whose tiles follow from the average alone, rounded up; the others' from the tokens."""
