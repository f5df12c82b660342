"""Prices by a number that says all of a shape, asked once in a run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moesim.engine.case import Ints


class Remembered:
    """Different ``numbers``, ascending, the ``price`` of each, and how many ``times`` it came."""

    def __init__(self) -> None:
        self.numbers, self.price, self.times = np.zeros((3, 0), np.int64)

    def prices(self, numbers: Ints, ask: Callable[[Ints], Ints]) -> Ints:
        """Prices of ``numbers`` int64[n], which are counted; ``ask`` is given where new ones are,
        int64[m], and gives their prices.
        """
        at = np.searchsorted(self.numbers, numbers)
        known = np.append(self.numbers, -1)[at] == numbers
        if not known.all():
            self._add(numbers, np.flatnonzero(~known), ask)
            at = np.searchsorted(self.numbers, numbers)
        self.times += np.bincount(at, minlength=len(self.times))
        prices: Ints = self.price[at]
        return prices

    def _add(self, numbers: Ints, unknown: Ints, ask: Callable[[Ints], Ints]) -> None:
        new, first = np.unique(numbers[unknown], return_index=True)
        at = np.searchsorted(self.numbers, new)
        self.price = np.insert(self.price, at, ask(unknown[first]))
        self.times = np.insert(self.times, at, 0)
        self.numbers = np.insert(self.numbers, at, new)
