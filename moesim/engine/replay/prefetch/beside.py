"""Prices of experts that the host computes or whose weights kernels read over the link."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.layout import Active, most_together
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.unit_groups import BROADCAST, room_for
from moesim.engine.replay.flat import NO_TABLE
from moesim.engine.replay.prefetch.arrays import Beside
from moesim.engine.replay.prefetch.prices import LaunchPrices


class BesidePrices:
    """Prices of experts that the host computes or that are read over the link."""

    def __init__(self, case: Case, provenance: Provenance, launches: LaunchPrices) -> None:
        self.case, self.provenance, self.launches = case, provenance, launches
        self.moved: list[tuple[int, int]] = []
        most = len(launches.asked)
        shape = (len(launches.specs), most if case.miss.uses_link else 0)
        self.link_ns = np.zeros(shape, np.int64)
        for number in range(1, shape[1]):
            self.link_ns[:, number] = [
                case.prices.copy_ns(number * spec.moe.expert.bytes, "h2d", True, 1)
                for spec in launches.specs
                if spec.moe
            ]

    def of(self, active: Iterable[Active]) -> Beside:
        """For a chunk with these active experts."""
        kinds, most, together = len(self.launches.specs), 0, 0
        if self.case.miss.uses_host:
            every = list(active)
            most = max(int(one.rows.max(initial=-1)) for one in every) + 1
            together = most_together(every) + 1
        self._move(together)
        rows = np.arange(most)
        cpu_ns = np.zeros((kinds, most), np.int64)
        for kind, spec in enumerate(self.launches.specs) if most else ():
            cpu_ns[kind] = self.case.prices.price(self.case.beside, spec, rows)
        moved = np.array(self.moved[:together], np.int64).reshape(-1, 2).T.copy()
        uses = np.zeros_like(cpu_ns), np.zeros_like(self.link_ns)
        link = self.link_ns, uses[1]
        return Beside(self.launches.kinds, cpu_ns, uses[0], moved, *link, *self._grouped(cpu_ns))

    def _grouped(self, cpu_ns: Ints) -> tuple[Ints, Ints, Ints]:
        """What ``Beside`` has of groups of units."""
        if (groups := self.case.unit_groups) is None:
            return NO_TABLE, NO_TABLE, np.zeros(0, np.int64)
        rows = np.arange(cpu_ns.shape[1])
        parts = [groups.of(rows, rows, of_kind)[BROADCAST:] for of_kind in cpu_ns]
        most = max(len(self.case.local_experts(gpu)) for gpu in range(self.case.gpus))
        return np.concatenate(parts), room_for(most), np.array([groups.number])

    def _move(self, rows: int) -> None:
        """Know what moving fewer than ``rows`` rows down, with the host's start, and up takes."""
        case = self.case
        size, pinned = (
            case.model.hidden_size * case.model.activation_bytes,
            case.software.pins_states,
        )
        for number in range(len(self.moved), rows):
            down, up = (
                case.prices.copy_ns(number * size, way, pinned, 1) for way in ("d2h", "h2d")
            )
            self.moved.append((case.host_start_ns + down, up))

    def settle(self, beside: Beside) -> None:
        """Count what the prices that were used rest on."""
        for kind, spec in enumerate(self.launches.specs):
            (rows,) = np.nonzero(beside.cpu_uses[kind])
            if len(rows):
                total = beside.cpu_ns[kind, rows] * beside.cpu_uses[kind, rows]
                self.provenance.add(self.case.beside, total, spec, rows)
            for number in np.flatnonzero(beside.link_uses[kind]).tolist():
                assert spec.moe is not None, "a MoE layer"
                shape = (number * spec.moe.expert.bytes, "h2d", True, 1)
                price, times = (
                    beside.link_ns[kind, number : number + 1],
                    beside.link_uses[kind, number],
                )
                self.provenance.add("copy", price, *shape, times=int(times))
