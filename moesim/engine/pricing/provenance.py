"""The provenance of a run's priced time: what it rests on, by charge and operation."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from moesim.engine.case import Ints, Prices
from moesim.hardware.cost_model import registry
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.provenance import Source

Totals = dict[tuple[str, str], Floats]
"""By charge and kind of operation, nanoseconds by source float64[5]."""


class Provenance:
    """Nanoseconds by charge, operation and source, summed over a run as it is priced."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.by_operation: Totals = defaultdict(lambda: np.zeros(len(Source)))

    def add(
        self, kind: str, price_ns: Ints, *shape: Any, times: int = 1, charge: str | None = None
    ) -> Ints:
        """Count prices of the operation ``kind``, ``times`` over; returns them. ``charge``: what
        they are charged to, where the operation itself does not say.
        """
        nanoseconds = self.prices.provenance(kind, price_ns, *shape)
        key = charge or registry.components[kind].category, kind
        self.by_operation[key] += times * nanoseconds
        return price_ns

    def mark(self) -> Totals:
        """What ``back`` goes back to."""
        return {key: found.copy() for key, found in self.by_operation.items()}

    def back(self, mark: Totals) -> None:
        """Forget what was added since then."""
        self.by_operation.clear()
        self.by_operation.update(mark)

    def totals(self) -> Totals:
        """By charge and operation, nanoseconds by source, where there are any."""
        return {key: found for key, found in self.by_operation.items() if found.any()}
