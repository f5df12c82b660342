"""One cache of prices by shape: in a run each different shape is asked for once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.case import Ints, Prices
from moesim.engine.pricing.provenance import Provenance
from moesim.runtime.compiled import built_in, inlined, njit, record, types

ROOM = 1 << 8
"""Shapes that a cache has room for at first."""
MOST = 1 << 20
"""Shapes from which on a cache is settled and begun anew."""
_NUMBERS = (int, float, str, np.generic)
MULTIPLIER, BITS = 0x1E3779B9, 31
LOW = (1 << BITS) - 1
"""Of a hash of so many bits, whose products never overflow: not every run is compiled."""
CODES = 1 << 16
"""Shapes that are numbered by a code that is theirs alone are looked up by it."""

Ask = Callable[[Ints, Ints], Ints]
"""Gives prices int64[m] (or [ways, m]) of new shapes int64[m, columns], and is told where each came
first, int64[m].
"""


class Kept(NamedTuple):
    """Shapes as compiled code reads and adds them: ``keys`` int64[room, columns], in the order in
    which they came, how many there are ``filled`` int64[1], where each came ``first`` and how often
    it is ``used`` int64[room] each; ``table`` int64[2 room or more]: 1 + the number of the shape
    that lies there, 0 without; and so ``coded`` int64[CODES], of shapes by their code.
    """

    keys: Any
    filled: Any
    first: Any
    used: Any
    table: Any
    coded: Any


_INT, _FLAT, _TABLE = types.int64, types.int64[::1], types.int64[:, ::1]
KEPT = record(Kept, _TABLE, *[_FLAT] * 5)


@inlined
def number_of(kept: Any, shape: Any, place: int, times: int) -> int:
    """The number of ``shape`` int64[columns], which comes at ``place`` and is used so many
    ``times``; -1 where it is new and there is no room.
    """
    table, value = kept.table, 0
    for i in range(len(shape)):  # products that do not wait for one another
        value += ((shape[i] ^ (shape[i] >> BITS)) & LOW) * ((MULTIPLIER * (2 * i + 1)) & LOW) >> 9
    value = ((value ^ (value >> BITS)) & LOW) * MULTIPLIER
    value ^= value >> 29
    at = value & (len(table) - 1)
    while table[at] > 0:
        number, i = table[at] - 1, 0
        while i < len(shape) and kept.keys[number, i] == shape[i]:
            i += 1
        if i == len(shape):
            kept.used[number] += times
            return int(number)
        at = (at + 1) & (len(table) - 1)
    number = kept.filled[0]
    if number == len(kept.used):
        return -1
    for i in range(len(shape)):  # as arrays they compile for seconds
        kept.keys[number, i] = shape[i]
    kept.filled[0] = table[at] = number + 1
    kept.first[number], kept.used[number] = place, times
    return int(number)


@built_in
def number_by(kept: Any, code: int, shape: Any, place: int, times: int) -> int:
    """As ``number_of``, of a shape that no other has the ``code`` of, if that is one."""
    coded = 0 <= code < CODES
    number = kept.coded[code] - 1 if coded else -1
    if number >= 0:
        kept.used[number] += times
        return int(number)
    number = number_of(kept, shape, place, times)
    if coded:
        kept.coded[code] = number + 1
    return int(number)


@njit(_INT(KEPT, _TABLE, _INT, _INT, _FLAT), cache=True, _nrt=False)
def _find(kept: Any, shapes: Any, begin: int, times: int, numbers: Any) -> int:
    """Fill in the ``numbers`` int64[n] of ``shapes`` int64[n, columns] from ``begin`` on; returns
    how far there was room.
    """
    one = shapes.shape[1] == 1
    for place in range(begin, len(shapes)):
        code = shapes[place, 0] if one else -1
        number = number_by(kept, code, shapes[place], place, times)
        if number < 0:
            return place
        numbers[place] = number
    return len(shapes)


@njit(types.void(_FLAT, _FLAT, _INT), cache=True)
def _use(used: Any, numbers: Any, times: int) -> None:
    for number in numbers:
        used[number] += times


class PriceCache:
    """Prices of shapes of so many ``columns`` of whole numbers, in so many ``ways`` each, and how
    often each was used since what they rest on was last ``settled``.
    """

    def __init__(self, columns: int, ways: int = 1) -> None:
        self._columns, self._ways = columns, ways
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._kept: Kept | None = None
        self._ns = np.zeros((self._ways, ROOM), np.int64)

    @property
    def kept(self) -> Kept:
        """What is kept; room for it is made when it is first asked for, as many have no shapes."""
        if self._kept is None:
            self._kept = _room_for(ROOM, self._columns)
        return self._kept

    def __len__(self) -> int:
        return 0 if self._kept is None else int(self._kept.filled[0])

    def prices(self, shapes: Ints, ask: Ask, times: int = 1) -> Ints:
        """Prices int64[n], or [ways, n], of ``shapes``, as ``numbers`` has them."""
        return self.of(self.numbers(shapes, ask, times))

    def numbers(self, shapes: Ints, ask: Ask, times: int = 1) -> Ints:
        """The numbers int64[n] of ``shapes`` int64[n, columns], which are used ``times`` each; of
        new ones ``ask`` gives the prices.
        """
        numbers = np.empty(len(shapes), np.int64)

        def find(kept: Kept, begin: int) -> int:
            return int(_find(kept, shapes, begin, times, numbers))

        self.add(find, len(shapes), ask)
        return numbers

    def use(self, numbers: Ints, times: int) -> None:
        """Shapes by their ``numbers`` int64[n] are used ``times`` more."""
        _use(self.kept.used, numbers, times)

    def add(self, find: Callable[[Kept, int], int], number: int, ask: Ask) -> None:
        """Let ``find`` add a ``number`` of shapes, from one on; it returns how far there was room.
        Those that are new are priced.
        """
        known, done = len(self), find(self.kept, 0)
        while done < number:
            self._grow()
            done = find(self.kept, done)
        if (now := len(self)) > known:
            self._ns[:, known:now] = ask(self.kept.keys[known:now], self.kept.first[known:now])

    def of(self, numbers: Ints) -> Ints:
        """Prices of shapes by their ``numbers``, of any form."""
        ns: Ints = self._ns[0].take(numbers) if self._ways == 1 else self._ns.take(numbers, axis=1)
        return ns

    def settled(self) -> tuple[Ints, Ints, Ints]:
        """The numbers int64[m] of shapes that were used, the shapes int64[m, columns] and what all
        uses took, int64[m] (or [ways, m]); none of them is used any more. In the shapes' own order,
        so that sums of them do not depend on which came first.
        """
        if not len(self):
            none = np.empty(0, np.int64)
            return none, np.empty((0, self._columns), np.int64), self.of(none)
        used = self.kept.used[: len(self)]
        numbers = np.flatnonzero(used)
        numbers = numbers[np.lexsort(self.kept.keys[numbers].T)]
        total = self.of(numbers) * used[numbers]
        used[:] = 0
        return numbers, self.kept.keys[numbers], total

    def uses(self) -> Ints:
        """How often each was used so far, int64[shapes]."""
        uses: Ints = self.kept.used[: len(self)].copy()
        return uses

    def used_as(self, uses: Ints) -> None:
        """Each was used so often, and those that came since then were not."""
        self.kept.used[: len(uses)], self.kept.used[len(uses) :] = uses, 0

    def _grow(self) -> None:
        """Twice the room."""
        old, known = self.kept, len(self)
        room = _room_for(2 * len(old.used), self._columns)
        _find(room, old.keys[:known], 0, 0, np.empty(known, np.int64))
        self._kept = room._replace(coded=old.coded)
        for name in ("first", "used"):
            getattr(self.kept, name)[:known] = getattr(old, name)[:known]
        self._ns = np.concatenate((self._ns, np.zeros_like(self._ns)), axis=1)


def _room_for(shapes: int, columns: int) -> Kept:
    first, used = np.zeros((2, shapes), np.int64)
    keys, table = np.empty((shapes, columns), np.int64), np.zeros(2 * shapes, np.int64)
    return Kept(keys, np.zeros(1, np.int64), first, used, table, np.zeros(CODES, np.int64))


class PricedOperation:
    """Prices of an operation, charged to a ``category`` ("": its own), of shapes that are alike but
    for their columns: the arrays of ``shape``, element by element.
    """

    def __init__(self, kind: str, category: str, shape: tuple[Any, ...]) -> None:
        self.kind, self.category, self.shape = kind, category, shape
        self.cache = PriceCache(max(1, len(_columns(shape))))

    def prices(self, prices: Prices, shape: tuple[Any, ...], number: int, times: int) -> Ints:
        """Those int64[number] of ``shape``, used ``times`` each."""
        return self.cache.of(self.numbers(prices, shape, number, times))

    def numbers(self, prices: Prices, shape: tuple[Any, ...], number: int, times: int) -> Ints:
        """Their numbers in the cache."""

        def ask(new: Ints, _first: Ints) -> Ints:
            price = prices.price(self.kind, *self._with(new))
            return np.broadcast_to(price, len(new))

        columns = _columns(shape) or [np.zeros(number, np.int64)]
        return self.cache.numbers(_side_by_side(columns), ask, times)

    def settle(self, provenance: Provenance) -> None:
        """Count what the prices so far rest on."""
        _, shapes, total = self.cache.settled()
        if len(total):
            charge = self.category or None
            provenance.add(self.kind, total, *self._with(shapes), charge=charge)
        if len(self.cache) > MOST:
            self.cache.forget()

    def _with(self, shapes: Ints) -> list[Any]:
        """The shape with these columns int64[n, columns]."""
        columns = iter(np.ascontiguousarray(shapes.T))
        return [next(columns) if _is_column(one) else one for one in self.shape]


def told(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """What tells ``shape`` from those that differ in more than their columns: numbers, and layers
    and drafters by their object.
    """
    return tuple(
        None if _is_column(one) else one if isinstance(one, _NUMBERS) else id(one) for one in shape
    )


def _is_column(one: Any) -> bool:
    return isinstance(one, np.ndarray)


def _columns(shape: tuple[Any, ...]) -> list[Ints]:
    return [one for one in shape if _is_column(one)]


def _side_by_side(columns: list[Ints]) -> Ints:
    """``columns`` as a table int64[n, columns]; one alone is not copied where compiled code takes
    it as it is.
    """
    if len(columns) == 1 and columns[0].flags.writeable:
        return np.ascontiguousarray(columns[0]).reshape(-1, 1)
    return np.stack(columns, axis=1)
