"""Which expert sits where (docs/semantics.md, "Placement"): physical experts, and replicas."""

from __future__ import annotations

from collections.abc import Iterator

from .reference_batches import Part, Pass
from .reference_words import NO_EXPERT, Config, Model, Trace


def physical_experts(moe_layer: int, model: Model, config: Config) -> list[int]:
    """The logical expert of each physical one, in the order of their ids."""
    everyone = list(range(model.experts))
    if config.placement == "contiguous":
        return everyone
    if config.placement == "round_robin":
        return sorted(everyone, key=lambda e: (e % config.holders, e))
    assert config.plan is not None, "the placement is a plan"
    plan = config.plan[moe_layer]
    return [e for held in runs(plan, config.holders) for e in sorted(held)]


def runs(values: list[int], gpus: int) -> list[list[int]]:
    """Neighbours for each GPU; the first ones have one more, as in numpy.array_split."""
    size, more = divmod(len(values), gpus)
    found, first = [], 0
    for g in range(gpus):
        last = first + size + (1 if g < more else 0)
        found.append(values[first:last])
        first = last
    return found


def physical(model: Model, config: Config) -> int:
    """How many physical experts each layer has."""
    return len(config.plan[0]) if config.plan is not None else model.experts


def local_experts(model: Model, config: Config) -> list[list[int]]:
    """The physical experts of every GPU, ascending: the same in all layers."""
    held = runs(list(range(physical(model, config))), config.holders)
    return [held[config.holder(g)] for g in range(config.gpus)]


def share_out(
    count: list[list[int]], moe_layer: int, model: Model, config: Config
) -> list[list[int]]:
    """Rows [sender][physical] from choices [sender][logical]."""
    replicas: dict[int, list[int]] = {}
    for p, e in enumerate(physical_experts(moe_layer, model, config)):
        replicas.setdefault(e, []).append(p)
    rows = []
    for sender, choices in enumerate(count):
        mine = [0] * physical(model, config)
        for expert, c in enumerate(choices):
            held = replicas[expert]
            for p in held:
                mine[p] = c // len(held)
            for i in range(c % len(held)):
                mine[held[(sender + i) % len(held)]] += 1
        rows.append(mine)
    return rows


def dealt(
    one: Pass, moe_layer: int, trace: Trace, model: Model, config: Config
) -> Iterator[tuple[Part, int, int, int]]:
    """Of every choice of a pass in a layer its request's part, row and rank, and the physical
    expert that it goes to: those of one expert by one sender take turns, as ``share_out`` counts.
    """
    replicas: dict[int, list[int]] = {}
    for p, e in enumerate(physical_experts(moe_layer, model, config)):
        replicas.setdefault(e, []).append(p)
    turns: dict[tuple[int, int], int] = {}
    for part in one.parts:
        sender = config.sender(part.gpu)
        for row in part.rows:
            for rank, expert in enumerate(trace["expert_ids"][row][moe_layer]):
                if expert != NO_EXPERT:
                    turn = turns.setdefault((sender, expert), sender)
                    turns[sender, expert] += 1
                    held = replicas[expert]
                    yield part, row, rank, held[turn % len(held)]


def dealt_weights(
    one: Pass, moe_layer: int, trace: Trace, model: Model, config: Config
) -> dict[int, int]:
    """Gate weights of the choices that go to each physical expert, in units of 2**-24."""
    weights: dict[int, int] = {}
    for _, row, rank, expert in dealt(one, moe_layer, trace, model, config):
        weight = int(trace["gate_weights"][row][moe_layer][rank] * 2**24)
        weights[expert] = weights.get(expert, 0) + weight
    return weights
