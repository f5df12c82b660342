"""Prices of launches of experts: most are as dear as one seen before."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.provenance import Provenance
from moesim.engine.remembered import Remembered
from moesim.model.spec import LayerSpec
from moesim.runtime.compiled import njit, types

BITS = 13
FEW_ROWS = 1 << BITS
"""Rows of a launch below which it is remembered: larger ones are seldom alike."""
MOST = 1 << 14
"""Launches remembered at once."""

_FLAT = types.int64[::1]


@njit(types.boolean(_FLAT, _FLAT, _FLAT, _FLAT, types.boolean, _FLAT), cache=True)
def _tell_apart(
    rows: Any, starts: Any, tile: Any, group: Any, by_average: bool, numbers: Any
) -> bool:
    """Fill in a number for each launch: of its rows, experts, tiles and further groups of tiles.

    ``tile`` rows of a tile and ``group`` tiles of a group by the rows of a launch, or its average
    rows; returns whether all have fewer rows than that, and
    each expert some.
    """
    for launch in range(len(starts)):
        end = starts[launch + 1] if launch + 1 < len(starts) else len(rows)
        total = tiles = further = 0
        for i in range(starts[launch], end):
            total += rows[i]
        if total >= len(tile):
            return False
        at = -(-total // (end - starts[launch])) if by_average and total else total
        size, together = tile[at], group[at]
        for i in range(starts[launch], end):
            if rows[i] == 0:
                return False
            tiles += 1
            if rows[i] > size:
                more = (rows[i] - 1) // size
                tiles += more
                further += more // together
        experts = end - starts[launch]
        numbers[launch] = ((total << BITS | experts) << BITS | tiles) << BITS | further
    return True


class RaggedLaunches:
    """Prices launches of the layers that are like ``spec``."""

    def __init__(self, case: Case, spec: LayerSpec) -> None:
        self.case, self.spec = case, spec
        self.known, self.launches = Remembered(), dict[int, Ints]()
        self._alone: dict[int, int] = {}

    @cached_property
    def tiles(self) -> tuple[Ints, Ints, bool] | None:
        """A ``TileTable`` of launches with few rows, where the prices have one."""
        found = getattr(self.case.prices, "expert_tiles", None)
        return None if found is None else found(self.spec, np.arange(FEW_ROWS))

    def prices(self, provenance: Provenance, rows: Ints, starts: Ints) -> Ints:
        """As ``experts_ns`` has them of experts with rows, counted now or when they settle."""
        numbers = np.empty_like(starts)
        if not len(starts):
            return starts
        if self.tiles is None or not _tell_apart(rows, starts, *self.tiles, numbers):
            price = self.case.prices.experts_ns(self.spec, rows, starts)
            return provenance.add("experts", price, self.spec, rows, starts)
        if len(self.launches) > MOST:
            self.settle(provenance)
        ends = np.append(starts[1:], len(rows))

        def ask(new: Ints) -> Ints:
            launches = [rows[i:j].copy() for i, j in zip(starts[new], ends[new], strict=True)]
            self.launches |= zip(numbers[new].tolist(), launches, strict=True)
            return self.case.prices.experts_ns(self.spec, *_together(launches))

        return self.known.prices(numbers, ask)

    def price(self, rows: Ints) -> int:
        """The price of one launch of experts with ``rows``, not counted."""
        start, number = np.zeros(1, np.int64), np.empty(1, np.int64)
        if self.tiles is None or not _tell_apart(rows, start, *self.tiles, number):
            return int(self.case.prices.experts_ns(self.spec, rows, start)[0])
        alike = int(number[0])
        if alike not in self._alone:
            self._alone[alike] = int(self.case.prices.experts_ns(self.spec, rows, start)[0])
        return self._alone[alike]

    def settle(self, provenance: Provenance) -> None:
        """Count what the remembered launches rest on, and forget them."""
        if self.launches:
            price = self.known.price * self.known.times
            launches = [self.launches[number] for number in self.known.numbers.tolist()]
            provenance.add("experts", price, self.spec, *_together(launches))
            self.known, self.launches = Remembered(), {}


def _together(launches: list[Ints]) -> tuple[Ints, Ints]:
    """The rows of all, and where each begins."""
    return np.concatenate(launches), np.cumsum([0, *(len(launch) for launch in launches[:-1])])
