"""Experts that get other places during a run (docs/semantics.md, "Placement")."""

from __future__ import annotations

from dataclasses import replace

from .reference_batches import Pass
from .reference_placement import physical, physical_experts, runs, share_out
from .reference_words import NO_EXPERT, Config, Model, Prices, Trace


class Places:
    """Where experts are before each pass, and what GPUs wait for it."""

    def __init__(self, trace: Trace, model: Model, config: Config, prices: Prices) -> None:
        self.trace, self.model, self.config, self.prices = trace, model, config, prices
        self.loads: list[list[list[int]]] = []  # [pass][MoE layer][expert]
        # layers, what GPUs will hold of them, and the bytes that move for it
        self.coming: list[tuple[int, list[int], list[list[int]]]] = []
        self.times = self.bytes = self.beside = 0

    def next(self, one: Pass) -> tuple[Config, int, int]:
        """The places for ``one``, the wait before it, and for how long experts move beside it."""
        rules, cost, number = self.config.rebalance, 0, len(self.loads)
        if rules is None:
            return self.config, 0, 0
        if self.coming:  # this one went beside the pass before
            layer, plan, _ = self.coming.pop(0)
            self.move({layer: plan})
        if number and number % rules.interval == 0:
            cost = self.plan_anew(self.loads[-rules.window :])
        self.loads.append([self.chosen(one, m) for m in self.layers])
        beside = self.send(self.coming[0][2]) if self.coming else 0
        self.beside += beside * self.config.gpus
        return self.config, cost, beside

    def send(self, matrix: list[list[int]]) -> int:
        self.bytes += sum(map(sum, matrix))
        return self.prices.all_to_all_ns(matrix)

    @property
    def layers(self) -> range:
        return range(len(self.model.moe_layers))

    def move(self, new: dict[int, list[int]]) -> None:
        """Experts of these layers have new places."""
        now = {m: physical_experts(m, self.model, self.config) for m in self.layers} | new
        plan = [now[m] for m in self.layers]
        self.config = replace(self.config, placement="plan", plan=plan)

    def chosen(self, one: Pass, m: int) -> list[int]:
        count = [0] * self.model.experts
        for row in [row for part in one.parts for row in part.rows]:
            for expert in self.trace["expert_ids"][row][m]:
                if expert != NO_EXPERT:
                    count[expert] += 1
        return count

    def plan_anew(self, passes: list[list[list[int]]]) -> int:
        rules, config = self.config.rebalance, self.config
        assert rules is not None
        loads = [[sum(of) for of in zip(*(p[m] for p in passes), strict=True)] for m in self.layers]
        every = most = 0
        for m in self.layers:
            (rows,) = share_out([loads[m]], m, self.model, config)
            of_gpus = [sum(of) for of in runs(rows, config.holders)]
            every, most = every + sum(of_gpus), most + max(of_gpus)
        if every > rules.least * (config.holders * most):
            return 0
        self.times += 1
        new = {m: hottest_first(loads[m], physical(self.model, config)) for m in self.layers}
        moves = {m: self.moves(m, new[m]) for m in self.layers}
        moves = {m: matrix for m, matrix in moves.items() if any(map(any, matrix))}
        if rules.one_by_one:
            self.coming = [(m, new[m], matrix) for m, matrix in moves.items()]
            return 0
        self.move(new)
        return rules.planning + sum(map(self.send, moves.values()))

    def moves(self, m: int, plan: list[int]) -> list[list[int]]:
        """Bytes [from][to] of experts that a GPU had not."""
        config, size = self.config, self.model.bytes_in(m)
        before = runs(physical_experts(m, self.model, config), config.holders)
        matrix = [[0] * config.gpus for _ in before]
        node = [g // (config.gpus // config.nodes) for g in range(config.gpus)]
        for g, held in enumerate(runs(plan, config.holders)):
            for expert in sorted(set(held) - set(before[g])):
                having = [h for h in range(config.gpus) if expert in before[h]]
                nearest = min(having, key=lambda h, g=g: (node[h] != node[g], h))  # type: ignore[misc]
                matrix[nearest][g] += size
        return matrix


def hottest_first(loads: list[int], room: int) -> list[int]:
    """A toy plan: experts by falling load, and as many of them again as there is room for."""
    order = sorted(range(len(loads)), key=lambda e: (-loads[e], e))
    return [order[k % len(order)] for k in range(room)]
