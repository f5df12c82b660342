"""Prices of expert kernels, of which most have one row an expert."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.pricing.ragged_launches import RaggedLaunches
from moesim.engine.replay.quick.activations import Decided
from moesim.model.spec import LayerSpec
from moesim.runtime.compiled import njit, types

_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]


@njit(types.void(_FLAT, _TABLE, _TABLE, _TABLE, _FLAT), cache=True)
def _look_up(launch_ones: Any, ends: Any, ones_ns: Any, ones: Any, kernel_ns: Any) -> None:
    """Prices of the launches that have them in ``ones_ns`` [kinds, rows], counted in ``ones``."""
    for kind in range(len(ones_ns)):
        for launch in range(ends[kind, 0], ends[1 + kind, 0]):
            kernel_ns[launch] = ones_ns[kind, launch_ones[launch]]
            ones[kind, launch_ones[launch]] += 1


class OnesLaunches:
    """Prices of launches whose experts have a row each, known beforehand, and of the odd others;
    ``most``: there are none of these, nor of more experts.
    """

    def __init__(self, case: Case, most: int | None = None) -> None:
        self.case = case
        self.specs, self.of_variants = case.moe_kinds if most is None else _alike(case, most)
        self.kinds = self.of_variants[:, 0]
        order = np.argsort(self.kinds, kind="stable")
        self.works = (order[:, None] * case.gpus + np.arange(case.gpus)).ravel()
        if most is None:
            most = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
        self.starts = np.cumsum(np.arange(most))
        self.rows = np.ones(most * (most + 1) // 2, np.int64)
        prices = [case.prices.experts_ns(spec, self.rows, self.starts) for spec in self.specs]
        self.ones_ns = np.concatenate((np.zeros((len(prices), 1), np.int64), prices), axis=1)
        self.ones = np.zeros_like(self.ones_ns)
        self.odd = [RaggedLaunches(case, spec) for spec in self.specs]

    def of_rows(self, passes: int, top_k: int) -> Ints:
        """What a launch of each layer takes, int64[MoE layers], which so many passes have one of,
        of ``top_k`` experts with a row each.
        """
        self.ones[:, top_k] += passes * np.bincount(self.kinds, minlength=len(self.specs))
        kernel_ns: Ints = self.ones_ns[self.kinds, top_k]
        return kernel_ns

    def price(self, provenance: Provenance, decided: Decided) -> Ints:
        """The prices of all launches."""
        kernel_ns: Ints = np.empty_like(decided.launch_ones)
        _look_up(decided.launch_ones, decided.ends, self.ones_ns, self.ones, kernel_ns)
        odd = (decided.odd_at, decided.odd_starts, decided.odd_rows, decided.ends[:, 2:])
        self.price_odd(provenance, kernel_ns, *odd)
        return kernel_ns

    def price_odd(
        self,
        provenance: Provenance,
        kernel_ns: Ints,
        at: Ints,
        starts: Ints,
        rows: Ints,
        ends: Ints,
    ) -> None:
        """Fill in the prices of the odd launches, kind by kind."""
        for odd, (launch, row), (last_launch, last_row) in zip(
            self.odd, ends[:-1].tolist(), ends[1:].tolist(), strict=True
        ):
            if launch == last_launch:
                continue
            own, begins = rows[row:last_row], starts[launch:last_launch] - row
            kernel_ns[at[launch:last_launch]] = odd.prices(provenance, own, begins)

    def mark(self, provenance: Provenance) -> tuple[Ints, list[Ints]]:
        """What ``back`` goes back to: how often prices were used."""
        return self.ones.copy(), [odd.mark(provenance) for odd in self.odd]

    def back(self, mark: tuple[Ints, list[Ints]]) -> None:
        """What was priced since then is not played."""
        self.ones, uses = mark[0].copy(), mark[1]
        for odd, one in zip(self.odd, uses, strict=True):
            odd.back(one)

    def settle(self, provenance: Provenance) -> None:
        """Count what the launches rest on."""
        for odd in self.odd:
            odd.settle(provenance)
        for spec, price, number in zip(self.specs, self.ones_ns, self.ones, strict=True):
            provenance.add("experts", (price * number)[1:], spec, self.rows, self.starts)


def _alike(case: Case, most: int) -> tuple[list[LayerSpec], Ints]:
    """As ``Case.moe_kinds``, of launches of at most so many rows: these cost the same in layers
    whose tokens choose more on average, or fewer, where they are of as many tokens.
    """
    specs, kinds = case.moe_kinds
    tokens_of = getattr(case.prices, "expert_tokens", lambda *_: None)
    places: dict[tuple[LayerSpec, bytes], int] = {}
    numbers = list[int]()
    for spec in specs:
        moe = spec.moe
        assert moe is not None, "it is a MoE layer"
        tokens = None if moe.mean_choices is None else tokens_of(spec, np.arange(1, most + 1))
        if tokens is None:
            one, told = spec, b""
        else:
            one, told = replace(spec, moe=replace(moe, mean_choices=1.0)), tokens.tobytes()
        numbers.append(places.setdefault((one, told), len(places)))
    return [specs[numbers.index(place)] for place in range(len(places))], np.array(numbers)[kinds]
