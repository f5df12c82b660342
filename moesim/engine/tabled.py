"""Prices of many equal shapes: each different one is priced once."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.case import Floats, Ints, Prices

BY_TOKENS = ("attention", "cross_attention", "dense", "shared", "gate", "permute", "head")
"""Operations priced by few whole numbers, of which a run has few different ones."""
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
    """``prices``, asked once for each different shape of the operations ``BY_TOKENS``.

    The same nanoseconds; what they rest on is added up in another order.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._known: deque[tuple[tuple[Ints, ...], Different | None]] = deque(maxlen=REMEMBERED)
        self._alone: dict[tuple[Any, ...], tuple[Any, Ints | Floats]] = {}

    def __getattr__(self, name: str) -> Any:
        """Whatever else the prices have."""
        return getattr(self._prices, name)

    def attention_ns(self, layer: Any, *shape: Ints) -> Ints:
        """As in ``Prices``."""
        return self._priced("attention", (layer,), shape)

    def cross_attention_ns(self, layer: Any, *shape: Ints) -> Ints:
        """As in ``Prices``."""
        return self._priced("cross_attention", (layer,), shape)

    def dense_ns(self, layer: Any, *shape: Ints) -> Ints:
        """As in ``Prices``."""
        return self._priced("dense", (layer,), shape)

    def shared_ns(self, layer: Any, *shape: Ints) -> Ints:
        """As in ``Prices``."""
        return self._priced("shared", (layer,), shape)

    def gate_ns(self, layer: Any, *shape: Ints) -> Ints:
        """As in ``Prices``."""
        return self._priced("gate", (layer,), shape)

    def permute_ns(self, layer: Any, *shape: Ints) -> Ints:
        """As in ``Prices``."""
        return self._priced("permute", (layer,), shape)

    def head_ns(self, *shape: Ints) -> Ints:
        """As in ``Prices``."""
        return self._priced("head", (), shape)

    def rests_on(self, kind: str, price_ns: Ints, *shape: Any) -> Floats:
        """As in ``Prices``."""
        fixed, columns = (shape[:1], shape[1:]) if kind != "head" else ((), shape)
        if kind not in BY_TOKENS or (found := self._different(columns)) is None:
            return self._prices.rests_on(kind, price_ns, *shape)
        if len(found.where) > 1:
            total, columns = price_ns[found.where] * found.times, _at(columns, found.where)
            return self._prices.rests_on(kind, total, *fixed, *columns)

        def of_one() -> Floats:
            return self._prices.rests_on(kind, np.ones(1, np.int64), *fixed, *_at(columns, [0]))

        share: Floats = self._once(("rests_on", kind), fixed, columns, of_one)
        return share * int(price_ns[0] * found.times[0])

    def _priced(self, kind: str, fixed: tuple[Any, ...], columns: tuple[Ints, ...]) -> Ints:
        price = getattr(self._prices, f"{kind}_ns")
        if (found := self._different(columns)) is None:
            own: Ints = price(*fixed, *columns)
            return own
        if len(found.where) > 1:
            different: Ints = price(*fixed, *_at(columns, found.where))
            return different[found.place]
        one = self._once((kind,), fixed, columns, lambda: price(*fixed, *_at(columns, [0])))
        return np.full(len(columns[0]), one[0])

    def _once(
        self, what: tuple[str, ...], fixed: tuple[Any, ...], columns: tuple[Ints, ...], ask: Any
    ) -> Any:
        """What ``ask`` says of shapes that are all alike, asked once; layers go by their object."""
        key = (*what, *map(id, fixed), *(int(column[0]) for column in columns))
        if key not in self._alone:
            if len(self._alone) >= MOST_ALONE:
                self._alone.clear()
            self._alone[key] = (fixed, ask())
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


def _at(columns: tuple[Ints, ...], where: Ints | list[int]) -> tuple[Ints, ...]:
    return tuple(column[where] for column in columns)


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
