"""Transforms of routing, token by token or pass by pass (docs/routing.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from typing import Any, NamedTuple

import numpy as np

from .reference_batches import passes_of
from .reference_words import NO_EXPERT, Config, Model, Trace

Rule = dict[str, Any]
"""As an experiment has it, but for shares, which are numbers."""


class Choice(NamedTuple):
    """What a token chose in a layer, what it weighs now, and what it weighed in the recording."""

    expert: int
    weight: float
    recorded: float


Cell = list[Choice]
"""A token's choices in a layer."""


class NothingLeftError(Exception):
    """No token has a choice."""


@dataclass
class Rerouted:
    """A trace by rules, the model that is left, and each token's gate weight by what became of what
    rules took.
    """

    trace: Trace
    model: Model
    recorded: list[float]
    lost: dict[str, list[float]]
    changed: bool


def reroute(trace: Trace, model: Model, rules: list[Rule], passes: list[int] | None) -> Rerouted:
    """``trace`` of ``model`` by ``rules``, one after the other; ``passes``: of each token, see
    ``pass_of_rows``.
    """
    cells = cells_of(trace)
    living = [list(range(model.experts)) for _ in model.moe_layers]
    recorded = weights_of(cells)
    lost: dict[str, list[float]] = {}
    for rule in rules:
        before = weights_of(cells)
        if rule["kind"] in BY_PASS:
            cells = together(rule, cells, passes or [0] * len(cells), model.experts)
        else:
            cells, living = apply(rule, cells, living, trace, model.experts)
        name = "mispredicted" if rule["kind"] == "predicted" else "cut"
        so_far = lost.setdefault(name, [0.0] * len(cells))
        of_rule = zip(so_far, before, weights_of(cells), strict=True)
        lost[name] = [already + (was - now) for already, was, now in of_rule]
    left = rewritten(trace, model, cells, living)
    changed = as_wide(left[0], trace) != trace["expert_ids"] or left[1].experts < model.experts
    return Rerouted(*(left if changed else (trace, model)), recorded, lost, changed)


def as_wide(left: Trace, trace: Trace) -> list[list[list[int]]]:
    """What is ``left``, as wide as the ``trace``: a column that nobody had is no other choice."""
    width = len(trace["expert_ids"][0][0])
    return [
        [row + [NO_EXPERT] * (width - len(row)) for row in token] for token in left["expert_ids"]
    ]


def cells_of(trace: Trace) -> list[list[Cell]]:
    return [
        [
            [Choice(e, w, w) for e, w in zip(*of_layer, strict=True) if e != NO_EXPERT]
            for of_layer in zip(ids, weights, strict=True)
        ]
        for ids, weights in zip(trace["expert_ids"], trace["gate_weights"], strict=True)
    ]


def weights_of(cells: list[list[Cell]]) -> list[float]:
    """Recorded, of each token in all layers."""
    return [sum(one.recorded for cell in token for one in cell) for token in cells]


def apply(
    rule: Rule, cells: list[list[Cell]], living: list[list[int]], trace: Trace, experts: int
) -> tuple[list[list[Cell]], list[list[int]]]:
    """Cells and living experts behind a rule."""
    if rule["kind"] == "predicted":
        named = trace["predicted_ids"]
        ids = [row[0] for row in named] if by_distance(trace) else named
        return [
            [foretold(*each) for each in zip(token, of, living, strict=True)]
            for token, of in zip(cells, ids, strict=True)
        ], living
    if rule["kind"] == "prune":
        living = [best(rule, cells, m, alive) for m, alive in enumerate(living)]
        return [
            [pruned(rule, cell, alive) for cell, alive in zip(token, living, strict=True)]
            for token in cells
        ], living
    keep = KEEPS[rule["kind"]]
    return [[keep(rule, cell, experts) for cell in token] for token in cells], living


def by_distance(trace: Trace) -> bool:
    """Whether predictions have an axis of distances."""
    return np.ndim(trace["predicted_ids"]) > 3


def ranked(cell: Cell) -> list[int]:
    """Places, the largest weight first, of equals the first."""
    return sorted(range(len(cell)), key=lambda place: -cell[place].weight)


def top_k(rule: Rule, cell: Cell, _experts: int) -> Cell:
    first = set(ranked(cell)[: rule["k"]])
    return [one for place, one in enumerate(cell) if place in first]


def threshold(rule: Rule, cell: Cell, experts: int) -> Cell:
    return [one for one in cell if one.weight * experts >= rule["epsilon"]]


def top_p(rule: Rule, cell: Cell, _experts: int) -> Cell:
    total, so_far, kept = sum(one.weight for one in cell), 0.0, set[int]()
    for place in ranked(cell):
        so_far += cell[place].weight
        before = so_far - cell[place].weight
        if before < rule["p"] * total or not kept or rule["p"] == 1:
            kept.add(place)
    return [one for place, one in enumerate(cell) if place in kept]


def gate_ratio(rule: Rule, cell: Cell, _experts: int) -> Cell:
    largest = max((one.weight for one in cell), default=0.0)
    first = set(ranked(cell)[: rule["least"]])
    return [
        one
        for place, one in enumerate(cell)
        if one.weight >= rule["ratio"] * largest or place in first
    ]


KEEPS: dict[str, Callable[[Rule, Cell, int], Cell]] = {
    "top_k": top_k,
    "threshold": threshold,
    "top_p": top_p,
    "gate_ratio": gate_ratio,
}


def pass_of_rows(trace: Trace, config: Config) -> list[int] | None:
    """The forward pass of each row, -1 without one; None where drafts decide it."""
    if config.drafts:
        return None
    found = [-1] * len(trace["request_id"])
    for one in passes_of(trace, config):
        for part in one.parts:
            for row in part.rows:
                found[row] = one.step
    return found


def together(
    rule: Rule, cells: list[list[Cell]], passes: list[int], experts: int
) -> list[list[Cell]]:
    """Cells behind a rule that looks at all tokens of a pass, and of none."""
    found = [list(token) for token in cells]
    for one in set(passes):
        rows = [row for row, of in enumerate(passes) if of == one]
        for m in range(len(cells[0])):
            kept = BY_PASS[rule["kind"]](rule, [cells[row][m] for row in rows], experts)
            for row, cell in zip(rows, kept, strict=True):
                found[row][m] = cell
    return found


def threshold_top_k(rule: Rule, cells: list[Cell], experts: int) -> list[Cell]:
    left = sum(len(threshold(rule, cell, experts)) for cell in cells)
    k = max(1, floor(Fraction(left, len(cells)) + Fraction(1, 2)))
    return [top_k({"k": k}, cell, experts) for cell in cells]


def xshare(rule: Rule, cells: list[Cell], experts: int) -> list[Cell]:
    sums = [0.0] * experts
    for cell in cells:
        for one in cell:
            sums[one.expert] += one.weight
    shared = sorted(range(experts), key=lambda expert: -sums[expert])[: rule["experts"]]
    firsts = [set(ranked(cell)[: rule["least"]]) for cell in cells]
    return [
        [one for place, one in enumerate(cell) if one.expert in shared or place in first]
        for cell, first in zip(cells, firsts, strict=True)
    ]


BY_PASS: dict[str, Callable[[Rule, list[Cell], int], list[Cell]]] = {
    "threshold_top_k": threshold_top_k,
    "xshare": xshare,
}


def foretold(cell: Cell, named: list[int], alive: list[int]) -> Cell:
    """The experts that were predicted, each with its weight where it was chosen too."""
    own = {one.expert: one for one in cell}
    different = dict.fromkeys(expert for expert in named if expert in alive)
    return [own.get(expert, Choice(expert, 0.0, 0.0)) for expert in different]


def best(rule: Rule, cells: list[list[Cell]], moe_layer: int, alive: list[int]) -> list[int]:
    """The experts of a layer that stay, ascending."""
    learnt = ceil(Fraction(str(rule["learn"])) * len(cells))
    scores = dict.fromkeys(alive, 0.0)
    for token in cells[:learnt]:
        for one in token[moe_layer]:
            scores[one.expert] += one.weight if rule["score"] == "gate_weight" else 1
    most = max(1, ceil(Fraction(str(rule["keep"])) * len(alive)))
    return sorted(sorted(alive, key=lambda expert: (-scores[expert], expert))[:most])


def pruned(rule: Rule, cell: Cell, alive: list[int]) -> Cell:
    kept = [one for one in cell if one.expert in alive]
    total, left = (sum(one.weight for one in of) for of in (cell, kept))
    if rule["then"] != "renormalise" or not left or left == total:
        return kept
    return [one._replace(weight=total / left * one.weight) for one in kept]


def rewritten(
    trace: Trace, model: Model, cells: list[list[Cell]], living: list[list[int]]
) -> tuple[Trace, Model]:
    """The trace of these cells, as wide as the fullest, its ids counted among the living."""
    width = max(len(cell) for token in cells for cell in token)
    if not width:
        raise NothingLeftError
    experts = max(map(len, living))
    number = [{expert: n for n, expert in enumerate(alive)} for alive in living]

    def row(values: list[int], m: int) -> list[int]:
        known = [number[m][e] for e in values if e in number[m]][:width]
        return known + [NO_EXPERT] * (width - len(known))

    def rows(of: list[list[int]]) -> list[list[int]]:
        return [row(values, m) for m, values in enumerate(of)]

    found = dict(trace)
    found["expert_ids"] = [
        rows([[one.expert for one in cell] for cell in token]) for token in cells
    ]
    found["gate_weights"] = [[held(cell, width) for cell in token] for token in cells]
    if "predicted_ids" in trace:
        far, named = by_distance(trace), trace["predicted_ids"]
        found["predicted_ids"] = [
            [rows(distance) for distance in token] if far else rows(token) for token in named
        ]
    fewer = [lacks([token[m] for token in cells], width, living[m]) for m in range(len(living))]
    return found, replace(model, experts=experts, top_k=width, varies=any(fewer))


def held(cell: Cell, width: int) -> list[float]:
    """Its weights as a file has them."""
    weights = [float(np.float16(min(max(one.weight, 0.0), 1.0))) for one in cell]
    return weights + [0.0] * (width - len(weights))


def lacks(cells: list[Cell], width: int, alive: list[int]) -> bool:
    """Whether some tokens choose fewer than they may in a layer that any token runs."""
    return any(cells) and any(len(cell) < min(width, len(alive)) for cell in cells)
