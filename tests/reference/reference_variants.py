"""Several formats of every expert, read plainly (docs/semantics.md, "Variants")."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor

from .reference_batches import Pass
from .reference_cache import Cache, usage_of
from .reference_misses import SKIP, SUBSTITUTE, Misses
from .reference_placement import dealt, dealt_weights
from .reference_policies import Expert
from .reference_words import NO_EXPERT, Activation, Config, Model, Trace

UNIT = 2**24


def bytes_of(activation: Activation, model: Model, config: Config) -> int:
    if not config.variants:
        return model.bytes_in(activation.layer)
    there = 0 if activation.slice_of is None else config.variants[activation.slice_of].expert_bytes
    return config.variants[activation.variant].expert_bytes - there


class VariantCaches:
    """The slots of every variant in one pool."""

    def __init__(
        self,
        config: Config,
        trace: Trace,
        model: Model,
        gpu: int,
        layers: list[int],
        local: list[int],
        usage: dict[Expert, int],
    ) -> None:
        self.config, self.trace, self.model, self.gpu = config, trace, model, gpu
        self.caches: list[Cache] = []
        before, every = 0, len(layers) * len(local)
        for number, variant in enumerate(config.variants):
            own = replace(config, slots=variant.slots)
            given = [own.slots_of(layer) for layer in layers]
            slots = sum(len(local) if of is None else of for of in given)
            cache = Cache(
                own, dict.fromkeys(layers, 1), gpu=gpu, layers=layers, local=local, usage=usage,
                active_experts=[], variant=number, before=max(0, min(before, every - slots)),
            )  # fmt: skip
            before += slots
            self.caches.append(cache)

    def step(
        self,
        one: Pass,
        number: int,
        layer: int,
        logical: dict[int, int],
        rows: list[int],
        weights: dict[int, int],
        misses: Misses,
        now_ns: int = 0,
    ) -> list[Activation]:
        """``logical`` of each needed expert, ascending; ``weights`` as policies are told."""
        best = self.caches[0]
        if best.all_resident:  # nothing is ever loaded
            return best.step(one.step, number, layer, list(logical), rows, weights, misses)
        wanted = self.wanted(one, layer)
        served = self.serving(one, layer, logical)
        there = {e: self.slices_of((layer, e), served[e]) for e in logical}
        activations: list[Activation] = []
        for variant, cache in enumerate(self.caches):
            ids = [e for e in logical if served[e] == variant]
            given = (one.step, number, layer, ids, rows, weights, misses)
            made = cache.step(*given, now_ns=now_ns, wanted=wanted) if ids else []
            for activation in made:
                activation.variant = variant
                if activation.missed and there[activation.expert]:
                    activation.slice_of = min(there[activation.expert])
            activations += made
        for e in (e for e in logical if served[e] == len(self.caches)):
            place = SUBSTITUTE if self.config.beyond == "substitute" else SKIP
            left = Activation(one.step, layer, self.gpu, len(activations), e, False, place=place)
            left.rows, left.variant = rows[e], len(self.caches)
            activations.append(left)
        computed = [activation for activation in activations if activation.place != SUBSTITUTE]
        if len(computed) < len(activations) and computed:
            mine = dealt_weights(one, layer, self.trace, self.model, self.config)
            most = min(computed, key=lambda each: (-mine.get(each.expert, 0), each.expert))
            most.rows += sum(each.rows for each in activations if each not in computed)
        return activations

    def serving(self, one: Pass, layer: int, logical: dict[int, int]) -> dict[int, int]:
        """Which variant serves each needed expert, of the slots as they are."""
        if self.caches[0].all_resident:
            return dict.fromkeys(logical, 0)
        wanted = self.wanted(one, layer)
        served = {e: self.served((layer, e), wanted[e]) for e in logical}
        if self.config.beyond == "substitute" and set(served.values()) == {len(self.caches)}:
            served = dict.fromkeys(served, len(self.caches) - 1)  # nobody to take their place
        return served

    def slices_of(self, expert: Expert, variant: int) -> list[int]:
        """The worse variants that are in slots and whose bits ``variant`` has."""
        found: list[int] = []
        for worse in range(variant + 1, len(self.caches)):
            if not self.config.variants[worse].nested:
                break
            if expert in self.caches[worse].resident:
                found.append(worse)
        return found

    def served(self, expert: Expert, wanted: int) -> int:
        """The variant that serves, or their number."""
        there = self.there(expert, wanted)
        return self.loaded(wanted) if there is None else there

    def there(self, expert: Expert, wanted: int) -> int | None:
        """The best variant in a slot that would do where one is wanted."""
        count = len(self.caches)
        allowed = range(count) if self.config.use_worse else range(min(wanted + 1, count))
        for variant in allowed:
            if expert in self.caches[variant].resident:
                return variant
        return None

    def fetched(self, one: Pass, layer: int, expert: int) -> int | None:
        """In which variant an expert is copied that is predicted for a pass; None: not at all."""
        count, how = len(self.caches), self.config.prefetch.variant
        wanted = self.wanted(one, layer).get(expert)
        if how != "wanted" or wanted is None:
            return 0 if how == "high" else count - 1
        found = self.loaded(wanted)
        return found if found < count else None

    def loaded(self, wanted: int) -> int:
        """The variant that is loaded where none is there that would do, or their number."""
        count = len(self.caches)
        beyond = {"low": count - 1, "high": 0}.get(self.config.beyond, count)
        if self.config.choose == "resident_else" or wanted == count:
            return beyond
        return wanted

    def wanted(self, one: Pass, layer: int) -> dict[int, int]:
        """By physical expert, the best variant that one of the tokens wants that it serves."""
        found: dict[int, int] = {}
        for _, row, rank, expert in dealt(one, layer, self.trace, self.model, self.config):
            score = self.scores(row, layer)[self.trace["expert_ids"][row][layer][rank]]
            found[expert] = min(found.get(expert, len(self.caches)), self.variant(score))
        return found

    def variant(self, score: int) -> int:
        if self.config.choose == "resident_else":
            return 0
        for number, limit in enumerate(self.config.limits):
            whole = floor(Fraction(str(limit)) * UNIT)
            if score <= (UNIT - whole if self.config.choose == "gate_ratio" else whole):
                return number
        return len(self.caches)

    def scores(self, row: int, layer: int) -> dict[int, int]:
        """Of each expert that a token chose, 0 for the one that it needs most."""
        ids = self.trace["expert_ids"][row][layer]
        weights = [int(weight * UNIT) for weight in self.trace["gate_weights"][row][layer]]
        of = [(e, w) for e, w in zip(ids, weights, strict=True) if e != NO_EXPERT]
        if self.config.choose == "gate_cumulative":
            ordered, before, scores = sorted(of, key=lambda one: -one[1]), 0, {}
            for expert, weight in ordered:
                scores[expert] = before * UNIT // max(1, sum(w for _, w in of))
                before += weight
            return scores
        if self.config.choose == "gate_ratio":
            most = max((w for _, w in of), default=0)
            return {e: UNIT - w * UNIT // max(1, most) for e, w in of}
        if self.config.choose == "hot_cold":
            usage = usage_of(self.trace, layer, self.model.experts, 0.25)
            ranked = sorted(range(self.model.experts), key=lambda e: (-usage[e], e))
            return {e: (ranked.index(e) + 1) * UNIT // self.model.experts for e, _ in of}
        return {e: 0 for e, _ in of}
