"""Runs with prefetches that are worked by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .reference import reference
from .reference_words import DECODE, NO_EXPERT, Config, Layer, Model, Prefetch, Trace, Verdict
from .scenes import activations_of

KIND = "recorded"


AHEAD = ("prefetched", "prefetches_used", "prefetches_cancelled", "prefetches_promoted")


@dataclass(frozen=True)
class FlatPrices:
    """Attention 10, a launch 100, a copy of an expert its bytes; all else is free."""

    def attention_ns(
        self, layer: Any, tokens: int, context_tokens: int, kv_tokens: int, *decoding: int
    ) -> int:
        return 10

    def experts_ns(self, layer: Any, rows: list[int], *tokens: int) -> int:
        return 100

    def copy_ns(self, size: int, direction: str, pinned: bool = True, copies: int = 1) -> int:
        return size if direction == "h2d" else 0

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("_ns"):
            raise AttributeError(name)
        return lambda *arguments: 0


def play(
    passes: list[list[list[int]]],
    predicted: list[list[list[int]]] | None = None,
    *,
    copy: int,
    experts: int = 4,
    prefetch: dict[str, Any],
    prices: Any = None,
    **choices: Any,
) -> Verdict:
    """``passes[s][m]``: what decode step s needs in MoE layer m; a copy takes ``copy`` ns."""
    rows = [*passes, *(predicted or [])]
    top_k = max(len(ids) for row in rows for ids in row)
    trace: Trace = {
        "expert_ids": padded(passes, top_k),
        "request_id": [0] * len(passes),
        "position": list(range(len(passes))),
        "phase": [DECODE] * len(passes),
    }
    if predicted is not None:
        trace["predicted_ids"] = padded(predicted, top_k)
    layers = [Layer(m, moe=True) for m in range(len(passes[0]))]
    model = Model(layers, experts, top_k, 1, 1, expert_bytes=copy)
    config = Config(prefetch=Prefetch(**prefetch), **choices)
    return reference(trace, model, config, prices or FlatPrices())


def padded(rows: list[list[list[int]]], top_k: int) -> list[list[list[int]]]:
    return [[ids + [NO_EXPERT] * (top_k - len(ids)) for ids in row] for row in rows]


def spans(verdict: Verdict, engine: str) -> list[tuple[int, tuple[int, ...], int, int]]:
    """(layer, experts, start, end)."""
    found = [span for span in verdict.spans if span.engine == engine]
    return [(span.layer, span.experts, span.start_ns, span.end_ns) for span in found]


def of_layer(verdict: Verdict, step: int, layer: int, *names: str) -> tuple[int, ...]:
    (row,) = [r for r in verdict.layers if (r["step"], r["layer"]) == (step, layer)]
    return tuple(row[name] for name in names)


def ways(verdict: Verdict, step: int, layer: int) -> str:
    """Of each activation: hit, late or missed."""
    activations = [
        activation for activation in activations_of(verdict, step) if activation.layer == layer
    ]
    return "".join(
        "h" if activation.hit else "l" if activation.late else "m" for activation in activations
    )
