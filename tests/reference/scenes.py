"""Hand-sized scenes: one request whose steps need just the experts that are listed."""

from __future__ import annotations

from typing import Any

from .prices import ToyPrices
from .reference import reference
from .reference_words import DECODE, NO_EXPERT, Activation, Config, Layer, Model, Trace, Verdict


def scene(steps: list[list[int]], experts: int) -> tuple[Trace, Model]:
    """One MoE layer; decode step s needs ``steps[s]``."""
    top_k = max(len(ids) for ids in steps)
    trace: Trace = {
        "expert_ids": [[ids + [NO_EXPERT] * (top_k - len(ids))] for ids in steps],
        "request_id": [0] * len(steps),
        "position": list(range(len(steps))),
        "phase": [DECODE] * len(steps),
    }
    return trace, Model([Layer(0, moe=True)], experts, top_k, 1, 1, 100)


def play(steps: list[list[int]], experts: int, **choices: Any) -> Verdict:
    trace, model = scene(steps, experts)
    return reference(trace, model, Config(**choices), ToyPrices())


def log(verdict: Verdict, step: int) -> list[tuple[int, str, int | None]]:
    """(expert, rule, victim) of every activation of a step."""
    return [(t.expert, t.rule, t.victim) for t in activations_of(verdict, step)]


def launches(verdict: Verdict, step: int) -> list[list[int]]:
    activations = activations_of(verdict, step)
    return [
        [t.expert for t in activations if t.launch == launch]
        for launch in range(max(t.launch for t in activations) + 1)
    ]


def activations_of(verdict: Verdict, step: int) -> list[Activation]:
    return [activation for activation in verdict.activations if activation.step == step]
