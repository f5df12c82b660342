"""Prices of expert kernels, of which most have one row an expert."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.pricing.ragged_launches import RaggedLaunches
from moesim.engine.replay.quick.activations import ResidencyPlan
from moesim.runtime.compiled import njit, types

_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]


@njit(types.void(_FLAT, _TABLE, _TABLE, _TABLE, _FLAT), cache=True)
def _look_up(launch_rows: Any, ends: Any, single_row_ns: Any, uses: Any, kernel_ns: Any) -> None:
    """Prices of launches that have one in ``single_row_ns`` [kinds, rows], and their ``uses``."""
    for kind in range(len(single_row_ns)):
        for launch in range(ends[kind, 0], ends[1 + kind, 0]):
            kernel_ns[launch] = single_row_ns[kind, launch_rows[launch]]
            uses[kind, launch_rows[launch]] += 1


class LaunchPrices:
    """Prices of launches whose experts have a row each, known beforehand, and of the ragged others;
    ``most``: there are none of these, nor of more experts.
    """

    def __init__(self, case: Case, most: int | None = None) -> None:
        self.case = case
        self.specs, self.of_variants = case.moe_kinds
        self.kinds = self.of_variants[:, 0]
        order = np.argsort(self.kinds, kind="stable")
        self.works = (order[:, None] * case.gpus + np.arange(case.gpus)).ravel()
        if most is None:
            most = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
        self.starts = np.cumsum(np.arange(most))
        self.rows = np.ones(most * (most + 1) // 2, np.int64)
        prices = [case.prices.experts_ns(spec, self.rows, self.starts) for spec in self.specs]
        self.single_row_ns = np.concatenate((np.zeros((len(prices), 1), np.int64), prices), axis=1)
        self.uses = np.zeros_like(self.single_row_ns)
        self.ragged = [RaggedLaunches(case, spec) for spec in self.specs]

    def of_rows(self, passes: int, top_k: int) -> Ints:
        """What a launch of each layer takes, int64[MoE layers], which so many passes have one of,
        of ``top_k`` experts with a row each.
        """
        self.uses[:, top_k] += passes * np.bincount(self.kinds, minlength=len(self.specs))
        kernel_ns: Ints = self.single_row_ns[self.kinds, top_k]
        return kernel_ns

    def price(self, provenance: Provenance, plan: ResidencyPlan) -> Ints:
        """The prices of all launches."""
        kernel_ns: Ints = np.empty_like(plan.launch_rows)
        _look_up(plan.launch_rows, plan.ends, self.single_row_ns, self.uses, kernel_ns)
        ragged = (plan.ragged_at, plan.ragged_starts, plan.ragged_rows, plan.ends[:, 2:])
        self.price_ragged(provenance, kernel_ns, *ragged)
        return kernel_ns

    def price_ragged(
        self,
        provenance: Provenance,
        kernel_ns: Ints,
        at: Ints,
        starts: Ints,
        rows: Ints,
        ends: Ints,
    ) -> None:
        """Fill in the prices of the ragged launches, kind by kind."""
        for ragged, (launch, row), (last_launch, last_row) in zip(
            self.ragged, ends[:-1].tolist(), ends[1:].tolist(), strict=True
        ):
            if launch == last_launch:
                continue
            own, begins = rows[row:last_row], starts[launch:last_launch] - row
            kernel_ns[at[launch:last_launch]] = ragged.prices(provenance, own, begins)

    def mark(self, provenance: Provenance) -> tuple[Ints, list[Ints]]:
        """What ``back`` goes back to: how often prices were used."""
        return self.uses.copy(), [ragged.mark(provenance) for ragged in self.ragged]

    def back(self, mark: tuple[Ints, list[Ints]]) -> None:
        """What was priced since then is not played."""
        self.uses, uses = mark[0].copy(), mark[1]
        for ragged, one in zip(self.ragged, uses, strict=True):
            ragged.back(one)

    def settle(self, provenance: Provenance) -> None:
        """Count what the launches rest on."""
        for ragged in self.ragged:
            ragged.settle(provenance)
        for spec, price, number in zip(self.specs, self.single_row_ns, self.uses, strict=True):
            provenance.add("experts", (price * number)[1:], spec, self.rows, self.starts)
