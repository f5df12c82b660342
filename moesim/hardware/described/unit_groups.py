"""Groups of a near-memory device's units, each of which holds experts of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class UnitGroups:
    """``number`` of them, two or more: expert ``e`` of a layer lies in group ``e % number``. On the
    one link of all groups a row takes ``broadcast_ns`` to the units of one, ``gather_ns`` back.
    """

    number: int
    broadcast_ns: float
    gather_ns: float

    def of(self, experts: Ints, rows: Ints, price_ns: Ints) -> Ints:
        """Of ``experts`` int64[n] with so many ``rows``, which cost ``price_ns`` each, int64[4, n]:
        the group, and the parts of the price: broadcast, what the group takes alone, and gather.
        """
        rates = np.array([[self.broadcast_ns], [self.gather_ns]])
        sent, back = (rates * rows + 0.5).astype(np.int64)
        sent = np.minimum(sent, price_ns)
        back = np.minimum(back, price_ns - sent)
        return np.stack((experts % self.number, sent, price_ns - sent - back, back))
