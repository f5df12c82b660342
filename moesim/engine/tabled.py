"""Prices of many equal shapes: each different one is priced once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.case import Floats, Ints, Prices
from moesim.hardware.cost_model import registry

LARGEST = 1 << 62
"""Shapes are left as they are where, as one number, they would go beyond this."""
REMEMBERED = 4
MOST_ALONE = 1 << 12


class Different(NamedTuple):
    """The different ones among shapes: where the first of each is, which one each is, how many."""

    where: Ints
    place: Ints
    times: Ints


class Tabled:
    """``prices``, asked once for each different shape of operations with a place in a pass.

    The same nanoseconds; what they rest on is added up in another order.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._known: deque[tuple[tuple[Ints, ...], Different | None]] = deque(maxlen=REMEMBERED)
        self._alone: dict[tuple[Any, ...], tuple[Any, Ints | Floats]] = {}

    def __getattr__(self, name: str) -> Any:
        """Whatever else the prices have."""
        return getattr(self._prices, name)

    def price(self, kind: str, *shape: Any) -> Ints:
        """As in ``Prices``."""
        own: Ints
        columns = _columns(shape)
        if not (columns and stands(kind)) or (found := self._different(columns)) is None:
            own = self._prices.price(kind, *shape)
            return own
        if len(found.where) > 1:
            own = self._prices.price(kind, *_at(shape, found.where))
            return own[found.place]

        def of_one() -> Ints:
            return self._prices.price(kind, *_at(shape, [0]))

        return np.full(len(columns[0]), self._once("price", kind, shape, of_one)[0])

    def provenance(self, kind: str, price_ns: Ints | Floats, *shape: Any) -> Floats:
        """As in ``Prices``."""
        columns = _columns(shape)
        if not (columns and stands(kind)) or (found := self._different(columns)) is None:
            return self._prices.provenance(kind, price_ns, *shape)
        total = np.bincount(found.place, price_ns, len(found.where))
        if len(found.where) > 1:
            return self._prices.provenance(kind, total, *_at(shape, found.where))

        def of_one() -> Floats:
            return self._prices.provenance(kind, np.ones(1, np.int64), *_at(shape, [0]))

        share: Floats = self._once("provenance", kind, shape, of_one)
        return np.asarray(share * total[0])

    def _once(self, what: str, kind: str, shape: tuple[Any, ...], ask: Callable[[], Any]) -> Any:
        """What ``ask`` says of shapes that are all alike, asked once; layers go by their object."""
        told = [int(one[0]) if isinstance(one, np.ndarray) else id(one) for one in shape]
        key = (what, kind, *told)
        if key not in self._alone:
            if len(self._alone) >= MOST_ALONE:
                self._alone.clear()
            self._alone[key] = (shape, ask())
        return self._alone[key][1]

    def _different(self, columns: tuple[Ints, ...]) -> Different | None:
        """The different ones, remembered for the columns asked for last."""
        for known, found in self._known:
            if len(known) == len(columns) and all(map(_is, known, columns)):
                return found
        found = different(columns)
        self._known.append((columns, found))
        return found


def _is(one: Ints, other: Ints) -> bool:
    """Whether they are the same memory: what is compared with is kept, so it is not used anew."""
    return one is other or (
        one.base is not None
        and one.base is other.base
        and one.shape == other.shape
        and one.strides == other.strides
        and one.ctypes.data == other.ctypes.data
    )


def stands(kind: str) -> bool:
    """Whether prices of the operation ``kind`` go element by element."""
    return bool(registry.components[kind].charges)


def _columns(shape: tuple[Any, ...]) -> tuple[Ints, ...]:
    return tuple(one for one in shape if isinstance(one, np.ndarray))


def _at(shape: tuple[Any, ...], where: Ints | list[int]) -> tuple[Any, ...]:
    return tuple(one[where] if isinstance(one, np.ndarray) else one for one in shape)


def different(columns: tuple[Ints, ...]) -> Different | None:
    """The different ones of the shapes ``columns`` int64[n] each; None where there is none."""
    count, size, key = len(columns[0]), 1, np.zeros(len(columns[0]), np.int64)
    if not count:
        return None
    told: list[Ints] = []
    for column in columns:
        least, width = int(column.min()), int(column.max() - column.min()) + 1
        if width == 1 or any(np.array_equal(column, one) for one in told):
            continue
        told.append(column)
        size *= width
        if size > LARGEST:
            return None
        key = key * width + (column - least)
    if size > 2 * count:
        _, where, place, times = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
        return Different(where, place, times)
    counted, where = np.bincount(key, minlength=size), np.zeros(size, np.int64)
    where[key] = np.arange(count)
    there = np.flatnonzero(counted)
    number = np.zeros(size, np.int64)
    number[there] = np.arange(len(there))
    return Different(where[there], number[key], counted[there])
