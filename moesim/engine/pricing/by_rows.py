"""Prices of what goes by how many rows a GPU permutes, by that number."""

from __future__ import annotations

import numpy as np

from moesim.engine.case import Ints
from moesim.engine.pricing.prices import PriceCache
from moesim.engine.pricing.terms import Term
from moesim.hardware.charge import Stage


class PricesByRows:
    """What the operations of MoE ``layers`` take of which a price goes by rows alone, at ``most``
    so many: ``before_ns`` the counts are known and ``behind_ns`` the experts, and what is
    ``charged`` to each category, int64[MoE layers, 1 + most] each.
    """

    def __init__(self, layers: int, most: int) -> None:
        self.before_ns, self.behind_ns = np.zeros((2, layers, 1 + most), np.int64)
        self.charged: dict[str, Ints] = {}
        self._priced: list[tuple[PriceCache, Ints, Ints]] = []

    def add(self, term: Term, layers: Ints, cache: PriceCache, numbers: Ints) -> bool:
        """Add a ``term`` of these MoE ``layers``, whose prices have these ``numbers`` int64[1 +
        most] in a ``cache``; False where it stands at another stage.
        """
        if term.stage not in (Stage.BEFORE_GATE, Stage.GATE, Stage.AFTER):
            return False
        ns = self.behind_ns if term.stage is Stage.AFTER else self.before_ns
        ns[layers] += term.ns
        charged = self.charged.setdefault(term.category, np.zeros_like(ns))
        charged[layers] += term.ns
        self._priced.append((cache, numbers, layers))
        return True

    def use(self, times: Ints) -> None:
        """Layers permute so many rows so many ``times`` more, int64[MoE layers, 1 + most]."""
        for cache, numbers, layers in self._priced:
            cache.kept.used[numbers] += times[layers].sum(axis=0)
