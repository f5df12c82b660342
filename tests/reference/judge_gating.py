"""Routed tokens to rows of every expert, and bytes between every pair of GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from .judge_batches import Pass
from .judge_words import NO_EXPERT, Config, Model, Trace


@dataclass
class Routed:
    """One MoE layer of one pass."""

    tokens: list[int]  # [gpu] its own tokens
    choices: list[int]  # [gpu] experts chosen by its own tokens
    capacity: int  # rows a sender may give one expert (static gating)
    rows: list[int]  # [expert] rows executed
    kept: list[int]  # [expert] rows that carry a choice
    dropped: int
    needed: list[list[int]]  # [gpu] ascending ids of the set N
    matrix: list[list[int]]  # [sender][receiver] bytes of the dispatch


def local_experts(model: Model, config: Config) -> list[list[int]]:
    """The experts of every GPU, ascending."""
    everyone = range(model.experts)
    if config.placement == "round_robin":
        return [[e for e in everyone if e % config.gpus == g] for g in range(config.gpus)]
    # contiguous: the first (E mod G) GPUs have one more, as in numpy.array_split
    size, more = divmod(model.experts, config.gpus)
    local, first = [], 0
    for g in range(config.gpus):
        last = first + size + (1 if g < more else 0)
        local.append(list(range(first, last)))
        first = last
    return local


def tokens_of(one: Pass, gpus: int) -> list[int]:
    return [sum(len(part.rows) for part in one.parts if part.gpu == g) for g in range(gpus)]


def route(one: Pass, moe_layer: int, trace: Trace, model: Model, config: Config) -> Routed:
    count = [[0] * model.experts for _ in range(config.gpus)]
    for part in one.parts:
        for row in part.rows:
            for expert in trace["expert_ids"][row][moe_layer]:
                if expert != NO_EXPERT:
                    count[part.gpu][expert] += 1
    local = local_experts(model, config)
    tokens = tokens_of(one, config.gpus)
    row_bytes = model.hidden * model.activation_bytes
    everyone = range(model.experts)
    senders = range(config.gpus)
    total = [sum(count[s][e] for s in senders) for e in everyone]
    choices = [sum(count[s]) for s in senders]
    if config.gating == "dynamic":
        # Uneven: nothing padded, nothing dropped; only experts with rows are needed.
        needed = [[e for e in experts if total[e] > 0] for experts in local]
        matrix = [
            [sum(count[s][e] for e in experts) * row_bytes for experts in local] for s in senders
        ]
        return Routed(tokens, choices, 0, total, total, 0, needed, matrix)
    # static: every sender gives every expert the same number of rows, padded or dropped.
    capacity = ceil(Fraction(str(config.capacity_fraction)) * max(tokens))
    kept = [sum(min(count[s][e], capacity) for s in senders) for e in everyone]
    rows = [config.gpus * capacity] * model.experts
    matrix = [[len(experts) * capacity * row_bytes for experts in local] for _ in senders]
    dropped = sum(total) - sum(kept)
    return Routed(tokens, choices, capacity, rows, kept, dropped, local, matrix)
