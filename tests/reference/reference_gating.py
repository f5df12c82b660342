"""Routed tokens to rows of every expert, and bytes between every pair of GPUs."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from .reference_batches import Pass
from .reference_placement import dealt, local_experts, physical, share_out
from .reference_words import NO_EXPERT, Config, Model, Trace


@dataclass
class Routed:
    """One MoE layer of one pass."""

    tokens: list[int]  # [gpu] its own tokens
    choices: list[int]  # [gpu] kept choices of its own tokens; gathered: of all
    capacity: int  # rows a sender may give one expert; 0 under dynamic gating
    rows: list[int]  # [expert] rows executed
    kept: list[int]  # [expert] rows that carry a choice
    dropped: int
    needed: list[list[int]]  # [gpu] ascending ids of the set N
    sent: list[list[int]]  # [sender][receiver] rows of the dispatch; sliced: all-gather
    there: int  # bytes of a row that is sent
    back: int  # of one that comes back

    @property
    def dispatched(self) -> list[list[int]]:
        return [[rows * self.there for rows in mine] for mine in self.sent]

    @property
    def combined(self) -> list[list[int]]:
        return [[rows * self.back for rows in column] for column in zip(*self.sent, strict=True)]


def tokens_of(one: Pass, gpus: int) -> list[int]:
    return [sum(len(part.rows) for part in one.parts if part.gpu == g) for g in range(gpus)]


def route(one: Pass, moe_layer: int, trace: Trace, model: Model, config: Config) -> Routed:
    count = [[0] * model.experts for _ in range(config.senders)]
    for part in one.parts:
        for row in part.rows:
            for expert in trace["expert_ids"][row][moe_layer]:
                if expert != NO_EXPERT:
                    count[config.sender(part.gpu)][expert] += 1
    count = share_out(count, moe_layer, model, config)
    local = local_experts(model, config)
    tokens = tokens_of(one, config.gpus)
    whole = model.hidden * model.activation_bytes
    size = config.row_bytes(model.hidden, whole), whole
    everyone = range(physical(model, config))
    senders = range(config.senders)
    total = [sum(count[s][e] for s in senders) for e in everyone]
    choices = [sum(count[s]) for s in senders]
    if config.gating == "dynamic":
        # Uneven: nothing padded, nothing dropped; only experts with rows are needed.
        needed = [[e for e in experts if total[e] > 0] for experts in local]
        sent = [[sum(count[s][e] for e in experts) for experts in local] for s in senders]
        if config.gathers:
            choices, sent = choices * config.gpus, gathered(tokens)
        elif config.sends_once:
            sent = sent_once(one, moe_layer, trace, model, config)
        return Routed(tokens, choices, 0, total, total, 0, needed, sent, *size)
    # every sender gives every expert the same number of rows, padded or dropped.
    own = [sum(tokens)] if config.sliced else tokens
    capacity = capacity_of(own, count, len(trace["expert_ids"][0][0]), model, config)
    kept = [sum(min(count[s][e], capacity) for s in senders) for e in everyone]
    choices = [sum(min(count[s][e], capacity) for e in everyone) for s in senders]
    rows = [config.holders * capacity] * len(everyone)
    sent = [[len(experts) * capacity for experts in local] for _ in senders]
    if config.sliced:
        choices, sent = choices * config.gpus, gathered(tokens)
    dropped = sum(total) - sum(kept)
    return Routed(tokens, choices, capacity, rows, kept, dropped, local, sent, *size)


def gathered(tokens: list[int]) -> list[list[int]]:
    """Every GPU sends its hidden vectors to all others."""
    every = range(len(tokens))
    return [[0 if s == r else tokens[s] for r in every] for s in every]


def sent_once(
    one: Pass, moe_layer: int, trace: Trace, model: Model, config: Config
) -> list[list[int]]:
    """Rows [sender][receiver], of a token one to each GPU that has some of its experts; to another
    node one, which the GPU there with the sender's number on its node hands on.
    """
    wanted: list[tuple[int, set[int]]] = []
    last = (-1, -1, 0)
    for part, row, rank, expert in dealt(one, moe_layer, trace, model, config):
        if last[:2] != (id(part), row) or rank <= last[2]:
            wanted.append((part.gpu, set()))
        last = id(part), row, rank
        holders = [expert in held for held in local_experts(model, config)]
        wanted[-1][1].add(holders.index(True))
    rows = [[0] * config.gpus for _ in range(config.gpus)]
    size = config.gpus // config.nodes
    for sender, gpus in wanted:
        for node in {gpu // size for gpu in gpus}:
            door = sender if sender // size == node else node * size + sender % size
            behind = {(door, g) for g in gpus if g // size == node}
            for source, target in behind | {(sender, door)}:
                rows[source][target] += source != target
    return rows


def capacity_of(
    tokens: list[int], count: list[list[int]], top_k: int, model: Model, config: Config
) -> int:
    """Rows that every sender gives every expert."""
    largest = max(tokens)
    if config.agrees:
        return max(max(of_sender) for of_sender in count)
    if config.gating == "gshard":
        even = Fraction(largest * top_k, model.experts) * Fraction(str(config.factor))
        return max(ceil(even), config.min_capacity)
    assert config.gating in ("static", "tutel")
    return ceil(Fraction(str(config.capacity_fraction)) * largest)


@dataclass
class Choice:
    """One token's choice of an expert."""

    rank: int
    place: int
    weight: int
    token_weight: int
    draw: float


def weights_lost(
    one: Pass, moe_layer: int, trace: Trace, config: Config, capacity: int
) -> tuple[int, int, dict[int, int]]:
    """Gate weight of dropped choices, of all, and what each expert keeps, in units of 2**-24."""
    if (config.drops is None and not config.may_skip) or "gate_weights" not in trace:
        return 0, 0, {}
    whole = 0
    left: dict[int, int] = {}
    for (_, expert), choices in wanted_choices(one, moe_layer, trace, config).items():
        kept = choices if config.drops is None else choices[:capacity]
        left[expert] = left.get(expert, 0) + sum(choice.weight for choice in kept)
        whole += sum(choice.weight for choice in choices)
    return whole - sum(left.values()), whole, left


def beyond(
    one: Pass, moe_layer: int, trace: Trace, config: Config, capacity: int
) -> set[tuple[int, int]]:
    """The place among a pass's tokens and the rank of each choice that is dropped."""
    if config.drops is None:
        return set()
    every = wanted_choices(one, moe_layer, trace, config).values()
    return {(choice.place, choice.rank) for choices in every for choice in choices[capacity:]}


def wanted_choices(
    one: Pass, moe_layer: int, trace: Trace, config: Config
) -> dict[tuple[int, int], list[Choice]]:
    """The choices of each expert by a sender, those first that are kept first."""
    rows = [(part.gpu, row) for part in one.parts for row in part.rows]
    ids = [trace["expert_ids"][row] for _, row in rows]
    shape = (len(rows), len(ids[0]), len(ids[0][0]))
    stream = [config.seed, zlib.crc32(b"gating.drop"), one.step]
    draws = np.random.default_rng(stream).random(shape).tolist()
    wanted: dict[tuple[int, int], list[Choice]] = {}
    for place, (gpu, row) in enumerate(rows):
        weights = [int(w * 2**24) for w in trace["gate_weights"][row][moe_layer]]
        mine = list(enumerate(ids[place][moe_layer]))
        largest = max((weights[rank] for rank, e in mine if e != NO_EXPERT), default=0)
        for rank, expert in mine:
            if expert != NO_EXPERT:
                draw = draws[place][moe_layer][rank]
                choice = Choice(rank, place, weights[rank], largest, draw)
                wanted.setdefault((config.sender(gpu), expert), []).append(choice)
    order = {
        "first_come": lambda c: (c.rank, c.place),
        "random": lambda c: (c.rank, c.draw, c.place),
        "highest_gate_first": lambda c: (-c.weight, c.rank, c.place),
        "batch_prioritised": lambda c: (c.rank, -c.token_weight, c.place),
    }[config.drops or "first_come"]
    for choices in wanted.values():
        choices.sort(key=order)
    return wanted
