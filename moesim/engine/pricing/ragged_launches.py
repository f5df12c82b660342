"""Prices of launches of experts: most are as dear as one seen before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import NONE
from moesim.engine.pricing.prices import KEPT, Kept, PriceCache, number_by
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.routing import tokens_of
from moesim.model.spec import LayerSpec
from moesim.runtime.compiled import built_in, code_of, njit, types
from moesim.workload.growing import Growing

FEW_ROWS, MANY_ROWS = 1 << 13, 1 << 16
"""Rows of a launch below which its price is kept: as long as all have few, and where some have
more. Larger ones are seldom alike, but others are priced with them.
"""
MOST = 1 << 15
"""Launches of which an example is kept at once."""

COLUMNS = 4
"""What is told of a launch."""

FEW, EXPERTS = 1 << 9, 1 << 7
"""Rows and experts of a launch below which these alone tell it, where no expert has more than a
tile."""

Members = Callable[[Ints], tuple[Ints, Ints]]
"""Of launches by their places the rows of the experts, and where each launch begins."""

_INT, _FLAT, _TABLE = types.int64, types.int64[::1], types.int64[:, ::1]


@built_in
def shape_of(
    rows: Any, begin: int, end: int, tile: Any, group: Any, by_average: bool, shape: Any
) -> bool:
    """Fill in the ``shape`` int64[COLUMNS] of a launch of experts with ``rows`` begin:end: its
    rows, experts, tiles and further groups of tiles.

    ``tile`` rows of a tile and ``group`` tiles of a group by the rows of a launch, or its average
    rows; returns whether it has fewer rows than that, and each expert some.
    """
    total, least, most, power, more, further = 0, 1, 0, 0, 0, 0
    for i in range(begin, end):
        total += rows[i]
        least, most = min(least, rows[i]), max(most, rows[i])
    if total >= len(tile) or least == 0:
        return False
    at = -(-total // (end - begin)) if by_average and total else total
    size, together = tile[at], group[at]
    if most > size:  # seldom where tokens are few
        while 1 << power < size:
            power += 1
        for i in range(begin, end):  # divisions take long
            beyond = (rows[i] - 1) >> power if 1 << power == size else (rows[i] - 1) // size
            more += beyond
            further += beyond if together == 1 else beyond // together
    shape[0], shape[1], shape[2], shape[3] = total, end - begin, end - begin + more, further
    return True


@njit(types.boolean(_FLAT, _FLAT, _FLAT, _FLAT, types.boolean, _TABLE), cache=True, _nrt=False)
def _tell_apart(
    rows: Any, starts: Any, tile: Any, group: Any, by_average: bool, shapes: Any
) -> bool:
    """Fill in the shape of each launch (``shape_of``); whether all have one."""
    for launch in range(len(starts)):
        end = starts[launch + 1] if launch + 1 < len(starts) else len(rows)
        if not shape_of(rows, starts[launch], end, tile, group, by_average, shapes[launch]):
            return False
    return True


@built_in
def number_of_launch(kept: Any, shape: Any, place: int, times: int) -> int:
    """As ``number_of``, of the ``shape`` of a launch."""
    rows, experts = shape[0], shape[1]
    alone = rows < FEW and experts < EXPERTS and shape[2] == experts
    code = rows * EXPERTS + experts if alone and shape[3] == 0 else -1
    return int(number_by(kept, code, shape, place, times))


@njit(_INT(KEPT, _TABLE, _INT, _INT, _FLAT), cache=True, _nrt=False)
def _find(kept: Any, shapes: Any, begin: int, times: int, numbers: Any) -> int:
    """As ``PriceCache.numbers`` does, of the ``shapes`` of launches."""
    for place in range(begin, len(shapes)):
        numbers[place] = number_of_launch(kept, shapes[place], place, times)
        if numbers[place] < 0:
            return place
    return len(shapes)


class LaunchPrices(NamedTuple):
    """Of a MoE layer on a GPU ``kernel_ns``, ``read_ns``, ``hosted_ns`` and ``moved_ns`` as of
    ``Work``: arrays, or of a single pass lists.
    """

    kernel_ns: Any
    read_ns: Any
    hosted_ns: Any
    moved_ns: Any

    @classmethod
    def in_slots(cls, kernel_ns: list[int]) -> LaunchPrices:
        """Those of a pass's launches whose experts are all in slots."""
        return cls(kernel_ns, [0] * len(kernel_ns), [], [[0], [0]])


@dataclass(eq=False)
class _Pass:
    """The ``numbers`` of a pass's launches among those that are known, what they take, and how many
    ``times`` such passes came.
    """

    numbers: Ints
    ns: LaunchPrices
    times: int = 0


class RaggedLaunches:
    """Prices launches of the layers that are like ``spec``."""

    def __init__(self, case: Case, spec: LayerSpec) -> None:
        self.case, self.spec = case, spec
        self.known = PriceCache(COLUMNS)
        self.examples = Growing(np.uint32), Growing()
        """Of a launch of each shape the rows of its experts, one behind the other, and where each
        launch begins.
        """
        self._most = MOST
        self._passes: dict[tuple[bytes, bytes], _Pass] = {}

    @cached_property
    def tiles(self) -> tuple[Ints, Ints, bool] | None:
        """A ``TileTable`` of launches with few rows, where the prices have one."""
        return self.tiles_of(FEW_ROWS)

    def tiles_of(self, rows: int) -> tuple[Ints, Ints, bool] | None:
        """That of launches with fewer than so many ``rows``, as compiled code takes it, which does
        not look at what it is given (``code_of``).
        """
        of_prices = getattr(self.case.prices, "expert_tiles", None)
        found = None if of_prices is None else of_prices(self.spec, np.arange(rows))
        if found is None:
            return None
        tile, group = (np.ascontiguousarray(one, np.int64) for one in found[:2])
        return tile, group, bool(found[2])

    @cached_property
    def _codes(self) -> tuple[Any, Any]:
        """``_tell_apart`` and ``_find``, for single launches too."""
        return code_of(_tell_apart), code_of(_find)

    def prices(
        self, provenance: Provenance, rows: Ints, starts: Ints, times: int = 1, share: Ints = NONE
    ) -> Ints:
        """As ``experts_ns`` has them of experts with rows, counted ``times`` over, now or when they
        settle; ``share`` int64[launches] of the pass of each, where it tells tokens.
        """
        if not len(starts):
            return starts
        if len(share):
            shape = self.spec, rows, starts, tokens_of(share, sums_of(rows, starts))
            price = self.case.prices.experts_ns(*shape)
            return provenance.add("experts", price, *shape, times=times)
        if (shapes := self._shapes(rows, starts)) is None:
            price = self.case.prices.experts_ns(self.spec, rows, starts)
            return provenance.add("experts", price, self.spec, rows, starts, times=times)
        self.settle_many(provenance)
        return self.known.of(self._numbers(shapes, rows, starts, times))

    def of_pass(
        self, provenance: Provenance, rows: Ints, starts: Ints, share: Ints
    ) -> LaunchPrices:
        """As ``prices``, of a single pass; those that are alike are looked up once."""
        if len(share):
            return LaunchPrices.in_slots(self.prices(provenance, rows, starts, 1, share).tolist())
        alike = rows.tobytes(), starts.tobytes()
        if (known := self._passes.get(alike)) is None:
            self.settle_many(provenance)
            if not len(starts) or (shapes := self._shapes(rows, starts)) is None:
                return LaunchPrices.in_slots(self.prices(provenance, rows, starts).tolist())
            numbers = self._numbers(shapes, rows, starts, 0)
            known = _Pass(numbers, LaunchPrices.in_slots(self.known.of(numbers).tolist()))
            self._passes[alike] = known
        known.times += 1
        return known.ns

    def price(self, rows: Ints, share: int = 0) -> int:
        """The price of one launch of experts with ``rows``, not counted; ``share`` of its pass, 0
        where it tells no tokens.
        """
        start = np.zeros(1, np.int64)
        if share:
            tokens = tokens_of(np.array([share]), rows.sum())
            return int(self.case.prices.experts_ns(self.spec, rows, start, tokens)[0])
        if (shapes := self._shapes(rows, start)) is None:
            return int(self.case.prices.experts_ns(self.spec, rows, start)[0])
        return int(self.known.of(self._numbers(shapes, rows, start, 0))[0])

    def mark(self, provenance: Provenance) -> Ints:
        """What ``back`` goes back to: how often shapes were used. Who marks settles there alone."""
        if len(self.known) > MOST:
            self.settle(provenance)
        self._most = sys.maxsize
        return self.known.uses()

    def back(self, mark: Ints) -> None:
        """What was asked for since then was not used."""
        self.known.used_as(mark)

    def settle_many(self, provenance: Provenance) -> None:
        """Count what they rest on where there are many, unless who marks does."""
        if max(len(self.known), len(self._passes)) > self._most:
            self.settle(provenance)

    def settle(self, provenance: Provenance) -> None:
        """Count what the launches rest on, and forget them."""
        for one in self._passes.values():
            self.known.use(one.numbers, one.times)
        self._passes.clear()
        numbers, _, total = self.known.settled()
        if len(numbers):
            known, begins = (example.values for example in self.examples)
            rows, starts = _some(known, begins, numbers)
            provenance.add("experts", total, self.spec, rows.astype(np.int64), starts)
        self.known.forget()
        for example in self.examples:
            example.cut(0)

    def add(self, find: Callable[[Kept, int], int], number: int, members: Members) -> None:
        """Let ``find`` add the shapes of so many launches (``PriceCache.add``), of which there are
        ``members``.
        """

        def ask(_new: Ints, first: Ints) -> Ints:
            rows, starts = members(first)
            known, begins = self.examples
            begins.extend(len(known.values) + starts)
            known.extend(rows)
            return self.case.prices.experts_ns(self.spec, rows, starts)

        self.known.add(find, number, ask)

    def _shapes(self, rows: Ints, starts: Ints) -> Ints | None:
        """Of each launch what its price follows from, int64[launches, COLUMNS]; None where that is
        not known.
        """
        shapes = np.empty((len(starts), COLUMNS), np.int64)
        if self.tiles is None or self._codes[0](rows, starts, *self.tiles, shapes):
            return None if self.tiles is None else shapes
        most = sums_of(rows, starts).max()
        if not len(self.tiles[0]) <= most < MANY_ROWS:
            return None
        self.tiles = self.tiles_of(MANY_ROWS)
        return self._shapes(rows, starts)

    def _numbers(self, shapes: Ints, rows: Ints, starts: Ints, times: int) -> Ints:
        """Which of the ``known`` ones launches are, used ``times`` each."""

        def members(first: Ints) -> tuple[Ints, Ints]:
            return _some(rows, starts, first)

        numbers = np.empty(len(shapes), np.int64)

        def find(kept: Kept, begin: int) -> int:
            return int(self._codes[1](kept, shapes, begin, times, numbers))

        self.add(find, len(shapes), members)
        return numbers


def sums_of(rows: Ints, starts: Ints) -> Ints:
    """The rows of each launch, which begin at ``starts``."""
    before = np.append(0, np.cumsum(rows))
    sums: Ints = np.diff(before[np.append(starts, len(rows))])
    return sums


def _some(rows: Ints, starts: Ints, which: Ints) -> tuple[Ints, Ints]:
    """Of launches of experts with ``rows``, each of which begins at one of ``starts``, some."""
    sizes = np.append(starts[1:], len(rows))[which] - starts[which]
    begins = np.cumsum(sizes) - sizes
    return rows[np.arange(sizes.sum()) + np.repeat(starts[which] - begins, sizes)], begins
