"""Experts that get other places between passes (docs/semantics.md)."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Beside, Chunk
from moesim.engine.pricing.passes import Pricing
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.pricing.terms import Term
from moesim.engine.routing import Routing
from moesim.hardware.charge import REBALANCING, Stage
from moesim.placement.mapping import Placement
from moesim.placement.rebalance import Rebalance, busy, moved_experts, with_layer

CELLS = 1 << 21
"""Counts of the window that are held at once."""


class Rebalancing:
    """The places of experts of a run whose ``case`` says ``rules``; ``routing`` goes by them."""

    def __init__(
        self, case: Case, rules: Rebalance, routing: Routing, provenance: Provenance
    ) -> None:
        self.case, self.rules, self.routing, self.provenance = case, rules, routing, provenance
        self.planned, self.coming = case.placement, deque[tuple[int, Ints]]()
        """The last plan, and its layers that have yet to move, with the bytes that do."""
        self.costs: dict[int, int] = {}
        self.times = self.bytes = self.beside_gpu_ns = 0

    @property
    def told(self) -> tuple[int, int, int]:
        """See ``Outcome.rebalanced``."""
        return self.times, self.bytes, self.beside_gpu_ns

    def mark(self) -> tuple[Any, ...]:
        """What ``back`` goes back to."""
        places = self.routing.placement, self.planned, self.coming.copy()
        return places, self.costs.copy(), self.told

    def back(self, mark: tuple[Any, ...]) -> None:
        """Nothing has moved since then."""
        (self.routing.placement, self.planned, coming), costs, told = mark
        self.coming, self.costs = coming.copy(), costs.copy()
        self.times, self.bytes, self.beside_gpu_ns = told

    def reach(self, first: int, last: int) -> int:
        """Pass ``first`` comes next: decide what changes before it. Up to which pass, ``last`` at
        most, all stays so.
        """
        interval = self.rules.interval
        if self.coming:
            layer, _ = self.coming.popleft()
            self.routing.placement = with_layer(self.routing.placement, self.planned, layer)
        if first and first % interval == 0:
            self._plan(first)
        if self.coming:
            self.costs[first] = self._move(self.coming[0][1])
            self.beside_gpu_ns += self.case.gpus * self.costs[first]
        return self.stays(first, last)

    def stays(self, first: int, last: int) -> int:
        """Up to which pass, ``last`` at most, all stays as it is in pass ``first``, of which it may
        not be decided yet what moves beside it.
        """
        interval = self.rules.interval
        lone = self.coming or (self.rules.one_by_one and first % interval == 0)
        return first + 1 if lone else min(last, (first // interval + 1) * interval)

    def _plan(self, first: int) -> None:
        loads, now = self._loads(first), self.routing.placement
        if busy(now, loads, self.rules.least):
            return
        self.planned = Placement.of(self.rules.plan(loads, now.gpus), now.gpus)
        self.times += 1
        moved = {layer: self._bytes(now, layer) for layer in range(len(loads))}
        moved = {layer: matrix for layer, matrix in moved.items() if matrix.any()}
        if self.rules.one_by_one:
            self.coming.extend(moved.items())
            return
        self.routing.placement = self.planned
        self.costs[first] = self.rules.planning_ns + sum(map(self._move, moved.values()))

    def _loads(self, first: int) -> Ints:
        """Choices int64[MoE layers, experts] of the window before pass ``first``."""
        begin, routing = max(0, first - self.rules.window), self.routing
        layers = len(routing.moe_layers)
        each = max(1, CELLS // (layers * routing.logical * self.case.senders))
        loads = np.zeros((layers, routing.logical), np.int64)
        for low in range(begin, first, each):
            loads += routing.choices(low, min(low + each, first)).sum(axis=(0, 2))
        return loads

    def _bytes(self, before: Placement, layer: int) -> Ints:
        moe = self.routing.moe_layers[layer].moe
        assert moe is not None, "it has experts"
        per_node = self.case.gpus // self.case.nodes
        return moved_experts(before, self.planned, layer, per_node) * moe.expert.bytes

    def _move(self, matrix: Ints) -> int:
        """Move these bytes from GPU to GPU; what it takes."""
        self.bytes += int(matrix.sum())
        price = self.case.prices.all_to_all_ns(matrix[None])
        return int(self.provenance.add("all_to_all", price, matrix[None], charge=REBALANCING)[0])

    def charge(self, chunk: Chunk, pricing: Pricing) -> None:
        """Have the first pass of ``chunk`` wait for what moves before it, or beside it."""
        if (cost := self.costs.pop(chunk.first, 0)) == 0:
            return
        if self.rules.one_by_one:
            chunk.beside = Beside(cost, pricing.until_all_reduce(chunk.first))
            return
        ns = np.zeros_like(chunk.terms.head[0].ns)
        ns[0] = cost
        chunk.terms.put_first(Term(Stage.BEFORE_GATE, REBALANCING, "move experts", ns))
