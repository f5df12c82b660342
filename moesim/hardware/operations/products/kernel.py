"""The time of a dense product of m x k with k x n: start, memory and whole waves of tiles.

``t = start + quant + (mem^p + comp^p)^(1/p)``; ``quant`` are blocks of threads that bring inputs to
8 bits, of kernels whose times have that inside; ``mem`` reads the weights and moves the
activations; ``comp`` computes whole tiles in whole waves over the multiprocessors, with the best of
a library's tiles. Few tiles are spread by splitting k.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from moesim.hardware.card import Card
from moesim.hardware.prices.arrays import NS, Floats

TILES = {
    (64, 64): 0.75,
    (64, 128): 0.85,
    (128, 64): 0.85,
    (128, 128): 1.0,
    (128, 256): 1.05,
    (256, 128): 1.05,
}
"""Rows and columns of a library's tiles, and their rate over that of the square one (a prior)."""
SPLIT_DEPTH = 512
"""The least k that a part of a split product has (a prior)."""
GROUP, MOST_GROUPS = 128, 16
"""Elements with one scale, and most such groups of a block: SGLang's ``per_token_group_quant_8bit``
gives each block as many as divide them all, of 16, 8, 4, 2 and 1 (``compute_groups_per_block``,
0.5.10)."""
FEWEST = 8
"""Fewer multiprocessors are the cores of a CPU, whose libraries have no large tiles to fill."""


@dataclass(frozen=True)
class ProductNumbers:
    """The fitted numbers; fractions are of the datasheet's values, as in ``ExpertNumbers``.
    ``block_ns``: of a block that quantises inputs, where the kernel has such.
    """

    start_ns: float = 4_000.0
    bandwidth: float = 0.9
    compute: float = 0.7
    overlap: float = 3.0
    activation_bandwidth: float = 0.6
    block_ns: float = 0.0

    @classmethod
    def names(cls, *, quantises: bool = False) -> tuple[str, ...]:
        """The numbers' names, in order; the last where the kernel ``quantises``."""
        return tuple(field.name for field in fields(cls))[: None if quantises else -1]


class ProductTerms(NamedTuple):
    """Nanoseconds of n products, each [n]; ``memory`` and ``compute`` overlap."""

    memory: Floats
    compute: Floats
    quantising: Floats
    total: Floats


def product_terms(
    numbers: ProductNumbers,
    shape: tuple[Floats, Floats, Floats],
    element_bytes: Floats,
    peak: Floats,
    card: Card,
) -> ProductTerms:
    """The terms of the products ``shape`` (m, n, k), each [n]; activations have two bytes."""
    m, n, k = shape
    weights = n * k * element_bytes / (card.bandwidth * numbers.bandwidth)
    moved = 2.0 * (m * k + m * n) / (card.bandwidth * numbers.activation_bandwidth)
    memory = (weights + moved) * NS
    compute = 2.0 * tiled(m, n, k, card.multiprocessors) * k * NS / (peak * numbers.compute)
    larger, smaller = np.maximum(memory, compute), np.minimum(memory, compute)
    together = larger * (1 + (smaller / larger) ** numbers.overlap) ** (1 / numbers.overlap)
    quantising = np.zeros(np.shape(m))
    if numbers.block_ns:
        quantising = numbers.block_ns * blocks(m, k)
    total = np.asarray(numbers.start_ns + quantising + together, np.float64)
    return ProductTerms(memory, compute, quantising, total)


def blocks(m: Floats, k: Floats) -> Floats:
    """Blocks of threads that quantise m x k inputs, each [n]."""
    groups = np.asarray(m * np.ceil(k / GROUP), np.int64)
    shared = np.minimum(np.maximum(groups & -groups, 1), MOST_GROUPS)
    return np.asarray(groups / shared, np.float64)


def tiled(m: Floats, n: Floats, k: Floats, multiprocessors: int) -> Floats:
    """Rows x columns that are paid for: whole tiles in whole waves, by the best tile."""
    if multiprocessors < FEWEST:
        return np.asarray(m * n, np.float64)
    best = np.full(np.shape(m), np.inf)
    for (rows, columns), rate in TILES.items():
        tiles = np.ceil(m / rows) * np.ceil(n / columns)
        parts = np.minimum(np.floor(multiprocessors / tiles), np.floor(k / SPLIT_DEPTH))
        busy = np.minimum(1.0, tiles * np.maximum(parts, 1) / multiprocessors)
        waves = np.ceil(tiles / multiprocessors) * multiprocessors
        paid = np.where(tiles < multiprocessors, tiles / busy, waves)
        best = np.minimum(best, paid * rows * columns / rate)
    return best
