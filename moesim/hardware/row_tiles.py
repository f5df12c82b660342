"""Rows of a product's tile: each expert's rows are padded to whole ones, by a rule of the kernels.

``triton``: vLLM's fused experts without a tuned file (16 rows for up to 32 tokens, then 32 to 96,
64 to 512, 128). ``ggml``: llama.cpp's products of quantised weights. On NVIDIA's cards from Volta
on (``mul_mat_q_switch_J`` of mmq.cuh) the least of its tiles that cuts the launch's tokens into as
few as 128 rows do, whatever rows an expert has; on AMD's RDNA 3 and 4 the same by the rows that an
expert has in the mean (mmq.cu); in Metal (mul_mm.metal) 32 rows, of which an empty half is skipped.
Read in llama-cpp-python 0.3.36. ``ggml-whole``: the same, but Metal's tiles are whole, as they are
in llama-cpp-python 0.3.9 to 0.3.35 (May 2025 to August 2026; looked for after 32 requests on an M2
Ultra were seen to be too fast).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
RowTiles = Literal["triton", "ggml", "ggml-whole"]
Tiling = Callable[[Ints, Ints], Ints]
"""Rows of a tile int64[n], for the tokens of launches and the mean rows of their experts."""
TILE_LIMITS = np.array([32, 96, 512])
TILES = np.array([16, 32, 64, 128])
WHOLE = frozenset({"fp32", "fp16", "bf16"})
"""Formats that are not packed, which llama.cpp leaves to other kernels: here, to ``triton``."""
MMQ = np.array([8, 16, 24, 32, 40, 48, 64, 80, 96, 112, 128])
METAL_ROWS = 32
METAL_APART = 31
"""The most tokens that Metal multiplies with one after the other, each with its own experts."""


def triton(tokens: Ints, _rows: Ints | None = None) -> Ints:
    """Of up to 32, 96, 512 and more tokens; each tile is a multiple of the smaller."""
    return TILES[np.searchsorted(TILE_LIMITS, tokens, side="left")]


def _mmq(tokens: Ints, _rows: Ints) -> Ints:
    count = np.maximum(tokens, 1)
    of_tile: Ints = -(-count // -(-count // MMQ[-1]))
    return MMQ[np.searchsorted(MMQ, of_tile)]


def _mmq_of_rows(_tokens: Ints, rows: Ints) -> Ints:
    return _mmq(rows, rows)


def _metal_whole(tokens: Ints, _rows: Ints) -> Ints:
    return np.where(tokens > METAL_APART, METAL_ROWS, 1)


def _metal_halves(tokens: Ints, _rows: Ints) -> Ints:
    return np.where(tokens > METAL_APART, METAL_ROWS // 2, 1)


OWN_TILES: Mapping[tuple[RowTiles, str | None], Tiling] = {
    ("ggml", "AMD"): _mmq_of_rows,
    ("ggml-whole", "AMD"): _mmq_of_rows,
    ("ggml", "Apple"): _metal_halves,
    ("ggml-whole", "Apple"): _metal_whole,
}


def tiling(kind: RowTiles, maker: str | None) -> Tiling:
    """The rule of kernels of a ``kind`` on a card of ``maker`` (None: NVIDIA)."""
    return triton if kind == "triton" else OWN_TILES.get((kind, maker), _mmq)


def tokens_apart(kind: RowTiles, maker: str | None) -> int:
    """The most tokens of a launch whose kernels read an expert for each token that chose it."""
    return METAL_APART if kind != "triton" and maker == "Apple" else 0


def padded(rows: ArrayLike, tile: ArrayLike) -> Ints:
    """``rows`` rounded up to whole tiles."""
    count, size = np.asarray(rows, np.int64), np.asarray(tile, np.int64)
    return -(-count // size) * size
