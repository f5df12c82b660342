"""The provenance of a run's priced time: what it rests on, by what it is charged to."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from moesim.engine.case import Ints, Prices
from moesim.hardware.arrays import Floats
from moesim.hardware.cost_model import registry
from moesim.hardware.provenance import Source


class Provenance:
    """Nanoseconds by charge and source, summed over a run as it is priced."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.by_charge: dict[str, Floats] = defaultdict(lambda: np.zeros(len(Source)))

    def add(
        self, kind: str, price_ns: Ints, *shape: Any, times: int = 1, charge: str | None = None
    ) -> Ints:
        """Count prices of the operation ``kind``, ``times`` over; returns them. ``charge``: what
        they are charged to, where the operation itself does not say.
        """
        nanoseconds = self.prices.provenance(kind, price_ns, *shape)
        self.by_charge[charge or registry.components[kind].category] += times * nanoseconds
        return price_ns

    def mark(self) -> dict[str, Floats]:
        """What ``back`` goes back to."""
        return {charge: found.copy() for charge, found in self.by_charge.items()}

    def back(self, mark: dict[str, Floats]) -> None:
        """Forget what was added since then."""
        self.by_charge.clear()
        self.by_charge.update(mark)

    def totals(self) -> dict[str, Floats]:
        """By charge, nanoseconds by source, where there are any."""
        return {charge: found for charge, found in self.by_charge.items() if found.any()}
