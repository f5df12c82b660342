"""Prices of expert kernels, of which most have one row an expert."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moesim.engine.basis import Basis
from moesim.engine.case import Case, Ints


class OnesWaves:
    """Prices of waves whose experts have a row each, known beforehand, and of the odd others."""

    def __init__(self, case: Case) -> None:
        self.case, layers = case, case.model.moe_layers
        alike = [replace(layer, index=0) for layer in layers]
        self.specs = list(dict.fromkeys(alike))
        self.kinds = np.array([self.specs.index(layer) for layer in alike])
        order = np.argsort(self.kinds, kind="stable")
        self.works = (order[:, None] * case.gpus + np.arange(case.gpus)).ravel()
        most = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
        self.starts = np.cumsum(np.arange(most))
        self.rows = np.ones(most * (most + 1) // 2, np.int64)
        prices = [case.prices.experts_ns(spec, self.rows, self.starts) for spec in self.specs]
        self.ones_ns = np.concatenate((np.zeros((len(prices), 1), np.int64), prices), axis=1)
        self.ones = np.zeros_like(self.ones_ns)

    def price_odd(
        self, basis: Basis, wave_ns: Ints, at: Ints, starts: Ints, rows: Ints, ends: Ints
    ) -> None:
        """Fill in the prices of the odd waves, kind by kind."""
        for spec, (wave, row), (last_wave, last_row) in zip(
            self.specs, ends[:-1].tolist(), ends[1:].tolist(), strict=True
        ):
            if wave == last_wave:
                continue
            own, begins = rows[row:last_row], starts[wave:last_wave] - row
            price = self.case.prices.experts_ns(spec, own, begins)
            basis.add("experts", price, spec, own, begins)
            wave_ns[at[wave:last_wave]] = price

    def settle(self, basis: Basis) -> None:
        """Count what the waves of ones rest on."""
        for spec, price, number in zip(self.specs, self.ones_ns, self.ones, strict=True):
            basis.add("experts", (price * number)[1:], spec, self.rows, self.starts)
