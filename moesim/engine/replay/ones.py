"""Prices of expert kernels, of which most have one row an expert."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.provenance import Provenance
from moesim.engine.ragged_waves import RaggedWaves
from moesim.engine.replay.activations import Decided
from moesim.runtime.compiled import njit, types

_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]


@njit(types.void(_FLAT, _TABLE, _TABLE, _TABLE, _FLAT), cache=True)
def _look_up(wave_ones: Any, ends: Any, ones_ns: Any, ones: Any, wave_ns: Any) -> None:
    """Prices of the waves that have them in ``ones_ns`` [kinds, rows], counted in ``ones``."""
    for kind in range(len(ones_ns)):
        for wave in range(ends[kind, 0], ends[1 + kind, 0]):
            wave_ns[wave] = ones_ns[kind, wave_ones[wave]]
            ones[kind, wave_ones[wave]] += 1


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
        self.odd = [RaggedWaves(case, spec) for spec in self.specs]

    def price(self, provenance: Provenance, decided: Decided) -> Ints:
        """The prices of all waves."""
        wave_ns: Ints = np.empty_like(decided.wave_ones)
        _look_up(decided.wave_ones, decided.ends, self.ones_ns, self.ones, wave_ns)
        odd = (decided.odd_at, decided.odd_starts, decided.odd_rows, decided.ends[:, 2:])
        self.price_odd(provenance, wave_ns, *odd)
        return wave_ns

    def price_odd(
        self, provenance: Provenance, wave_ns: Ints, at: Ints, starts: Ints, rows: Ints, ends: Ints
    ) -> None:
        """Fill in the prices of the odd waves, kind by kind."""
        for odd, (wave, row), (last_wave, last_row) in zip(
            self.odd, ends[:-1].tolist(), ends[1:].tolist(), strict=True
        ):
            if wave == last_wave:
                continue
            own, begins = rows[row:last_row], starts[wave:last_wave] - row
            wave_ns[at[wave:last_wave]] = odd.prices(provenance, own, begins)

    def settle(self, provenance: Provenance) -> None:
        """Count what the waves rest on."""
        for odd in self.odd:
            odd.settle(provenance)
        for spec, price, number in zip(self.specs, self.ones_ns, self.ones, strict=True):
            provenance.add("experts", (price * number)[1:], spec, self.rows, self.starts)
