"""What is predicted for a layer, and copied before it is asked for (docs/semantics.md)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np

from .reference_batches import Pass
from .reference_gating import Routed
from .reference_placement import local_experts, physical_experts
from .reference_words import NO_EXPERT, Config, Model, Trace

QUEUED, STARTED, PROMOTED, CANCELLED = "queued", "started", "promoted", "cancelled"


@dataclass(eq=False)
class Copy:
    """One prefetch of one expert, (layer, id), meant for one pass."""

    expert: tuple[int, int]
    step: int
    issued: int
    state: str = QUEUED  # PROMOTED: among the demand copies, and its times are not known yet
    start: int = 0
    end: int = 0
    promoted: bool = False
    used: bool = False
    used_in: int = -1  # in which pass
    there: int | None = 0  # when it is in host memory; None: its read has not begun
    asked: int = 0  # since when that waits
    read: bool = False  # it was read from storage, and that has begun
    variant: int = 0  # in which it is copied

    def ended(self, now: int) -> bool:
        return self.state == STARTED and self.end <= now

    def promote(self) -> None:
        self.state, self.promoted = PROMOTED, True

    def run(self, start: int, price: int) -> None:
        self.state, self.start, self.end = STARTED, start, start + price


def counted(copies: list[Copy], used: int) -> dict[str, int]:
    """Of one layer in one pass, once it is decided."""
    return {
        "prefetched": sum(copy.state in {STARTED, PROMOTED} for copy in copies),
        "prefetches_used": used,
        "prefetches_cancelled": sum(copy.state == CANCELLED for copy in copies),
        "prefetches_promoted": sum(copy.promoted for copy in copies),
    }


class Predictions:
    """Experts of a layer on a GPU for a pass, as each kind of prefetch names them."""

    def __init__(
        self,
        config: Config,
        model: Model,
        trace: Trace,
        passes: list[Pass],
        routed: list[dict[int, Routed]],
    ) -> None:
        self.config, self.trace, self.passes, self.routed = config, trace, passes, routed
        self.local = local_experts(model, config)
        # the logical expert, which the trace knows, of each physical one
        layers = range(len(model.moe_layers))
        self.held = [physical_experts(m, model, config) for m in layers]
        self.together: dict[tuple[int, int], dict[tuple[int, int], int]] = {}

    def layers_ahead(self, step: int, layer: int) -> list[tuple[int, int]]:
        """(pass, layer) of the next MoE layers, up to this one in the next pass."""
        ahead = [(step, m) for m in sorted(self.routed[step]) if m > layer]
        if step + 1 < len(self.passes):
            after = sorted(self.routed[step + 1])
            ahead += [(step + 1, m) for m in after if m <= layer or layer not in after]
        return ahead[: self.config.prefetch.layers]

    def coming(self, step: int) -> list[tuple[int, int]]:
        """(pass, layer) of what is predicted before a pass."""
        known = range(step, min(step + self.config.prefetch.every, len(self.passes)))
        return [(s, m) for s in known for m in sorted(self.routed[s])]

    def distance(self, at: tuple[int, int], target: tuple[int, int]) -> int:
        """How many layers are between; none where it is predicted before the pass."""
        return 0 if at == target else self.layers_ahead(*at).index(target)

    def of(self, at: tuple[int, int], target: tuple[int, int], g: int) -> list[int]:
        """``at`` and ``target``: (pass, layer) just decided, and ahead."""
        kind = self.config.prefetch.kind
        if kind == "oracle":
            return self.oracle(target, g, self.distance(at, target))
        if kind == "history":
            return self.history(target, g)
        if at[0] != target[0]:
            return []
        if kind == "recorded":
            held = self.held[target[1]]
            found = set(self.guessed(self.distance(at, target), *target))
            return [e for e in self.local[g] if held[e] in found]
        assert kind == "next_layer"
        return [e for e in self.next_layer(at, target[1]) if e in self.local[g]]

    def oracle(self, target: tuple[int, int], g: int, distance: int) -> list[int]:
        """``distance``: layers between."""
        step, layer = target
        choices, local = self.config.prefetch, self.local[g]
        holder = self.config.holder(g)
        stream = [self.config.seed, zlib.crc32(b"prefetch.oracle"), holder, layer]
        drawn = np.random.default_rng(stream).random((len(self.passes), len(local) + 1))[step]
        u = {e: float(x) for e, x in zip(local, drawn[:-1], strict=True)}
        needed = self.routed[step][layer].needed[g]
        recall, precision = (
            of[distance] if isinstance(of, tuple) else of
            for of in (choices.recall, choices.precision)
        )  # fmt: skip
        right = [e for e in needed if u[e] < recall]
        p = float(precision)
        wrong = floor(len(right) * (1 - p) / p + float(drawn[-1]))
        others = sorted((e for e in local if e not in needed), key=lambda e: (u[e], e))
        return sorted(right + others[:wrong])

    def history(self, target: tuple[int, int], g: int) -> list[int]:
        step, layer = target
        for before in reversed(self.routed[:step]):
            if layer in before:
                return before[layer].needed[g]
        return []

    def next_layer(self, at: tuple[int, int], ahead: int) -> list[int]:
        step, layer = at
        chosen = list(self.chosen("expert_ids", step, layer))
        scores: dict[int, int] = {}
        for e in chosen:
            for (known, f), tokens in self.pairs(layer, ahead).items():
                if known == e:
                    scores[f] = scores.get(f, 0) + tokens
        best = sorted(scores, key=lambda f: (-scores[f], f))[: len(set(chosen))]
        held = self.held[ahead]
        return [p for f in best for p in range(len(held)) if held[p] == f]

    def pairs(self, layer: int, ahead: int) -> dict[tuple[int, int], int]:
        """How many tokens of the first part choose e in the one layer and f in the other."""
        if (layer, ahead) not in self.together:
            ids = self.trace["expert_ids"]
            first = ceil(Fraction(str(self.config.prefetch.first_part)) * len(ids))
            found: dict[tuple[int, int], int] = {}
            for token in ids[:first]:
                for e in set(token[layer]) - {NO_EXPERT}:
                    for f in set(token[ahead]) - {NO_EXPERT}:
                        found[e, f] = found.get((e, f), 0) + 1
            self.together[layer, ahead] = found
        return self.together[layer, ahead]

    def guessed(self, distance: int, step: int, layer: int) -> Iterator[int]:
        """As recorded; ``distance``: layers between, of which a trace may know."""
        for part in self.passes[step].parts:
            for row in part.rows:
                of_token = self.trace["predicted_ids"][row]
                if isinstance(of_token[0][0], list):
                    of_token = of_token[distance]
                yield from of_token[layer]

    def chosen(self, column: str, step: int, layer: int) -> Iterator[int]:
        """Every choice of every token of the pass, on all GPUs."""
        for part in self.passes[step].parts:
            for row in part.rows:
                yield from (e for e in self.trace[column][row][layer] if e != NO_EXPERT)
