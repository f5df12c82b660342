"""What the priced time of a run rests on, by what it is charged to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from moesim.engine.case import Ints, Prices
from moesim.hardware.basis import Source
from moesim.hardware.roofline import Floats

CHARGE_OF: Mapping[str, str] = {
    "attention": "attention",
    "cross_attention": "attention",
    "dense": "attention",
    "head": "attention",
    "shared": "experts",
    "experts": "experts",
    "gate": "gate",
    "masks": "gate",
    "encode": "gate",
    "decide": "gate",
    "permute": "gate",
    "all_to_all": "dispatch_combine",
    "all_reduce": "attention",
    "combine_product": "dispatch_combine",
    "copy": "waiting_for_weights",
    "cpu_expert": "waiting_for_cpu",
}
"""The charge (``outcome.CHARGES``) that an operation's time is part of."""


class Basis:
    """Nanoseconds by charge and source, summed over a run as it is priced."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.by_charge: dict[str, Floats] = defaultdict(lambda: np.zeros(len(Source)))

    def add(
        self, kind: str, price_ns: Ints, *shape: Any, times: int = 1, charge: str | None = None
    ) -> Ints:
        """Count prices of the operation ``kind``, ``times`` over; returns them. ``charge`` where it
        is not the operation's usual one.
        """
        nanoseconds = self.prices.rests_on(kind, price_ns, *shape)
        self.by_charge[charge or CHARGE_OF[kind]] += times * nanoseconds
        return price_ns

    def resting(self) -> dict[str, Floats]:
        """By charge, nanoseconds by source, where there are any."""
        return {charge: found for charge, found in self.by_charge.items() if found.any()}
