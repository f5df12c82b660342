"""When prefetches are issued, start, and end: one GPU (docs/semantics.md, "Prefetch")."""

from __future__ import annotations

from .reference_cache import Cache
from .reference_clock import Clock
from .reference_misses import LOAD
from .reference_policies import Expert
from .reference_prefetch import CANCELLED, QUEUED, Copy, Predictions
from .reference_words import PREFILL, Activation, Config, Span


def prefetches(config: Config, phases: set[int]) -> bool:
    """Whether there are any in this run."""
    blocks = config.software.blocking and config.execution != "graph"
    around = config.prefill != "cache" and PREFILL in phases
    lists = config.policy in {"stream", "arc", "s3fifo"}
    beside = config.software.overlap and not blocks and not around and not lists
    return config.prefetch.kind != "none" and beside


class Ahead:
    """The prefetches of one GPU; ``caches[m]`` has the slots of its MoE layer m."""

    def __init__(
        self, clock: Clock, g: int, caches: dict[int, Cache], predictions: Predictions
    ) -> None:
        self.clock, self.g, self.caches, self.predictions = clock, g, caches, predictions
        self.config, self.gpu = clock.config, clock.gpus[g]
        self.made: list[Copy] = []
        self.size = clock.model.expert_bytes
        self.price = self.config.copy_ns(clock.model, clock.prices)

    def run_copies(self, now: int) -> None:
        """Those that start before ``now``: the demand copies of the layer before have ended."""
        for copy in self.made:
            if copy.state != QUEUED:
                continue
            start = max(self.gpu.copy_in, copy.issued)
            if start >= now:
                return
            copy.run(start, self.price)
            self.gpu.copy_in = copy.end
            layer, e = copy.expert
            self.clock.spans.append(
                Span(copy.step, layer, self.g, "copy_in", (e,), start, copy.end)
            )

    def end_layer(self, layer: int, needed: list[int]) -> None:
        cache = self.caches[layer]
        for copy in self.made:
            mine, e = copy.expert
            if mine == layer and copy.state == QUEUED and e not in needed:
                copy.state = CANCELLED
                cache.resident.remove(copy.expert)
                del cache.copies[copy.expert]
        cache.pinned -= {expert for expert in cache.pinned if expert[0] == layer}

    def issue(self, step: int, layer: int, activations: list[Activation], now: int) -> None:
        """Step 4, after the activations of a layer."""
        demand = sum(activation.place == LOAD for activation in activations)
        issued = 0
        predicted = [
            (target, (target[1], e))
            for target in self.predictions.layers_ahead(step, layer)
            if not self.caches[target[1]].all_resident
            for e in self.predictions.of((step, layer), target, self.g)
        ]
        for target, expert in predicted:
            if expert in self.caches[target[1]].resident:
                self.caches[target[1]].pinned.add(expert)
        missing = [at for at, expert in predicted if expert not in self.caches[at[1]].resident]
        first_only = self.config.prefetch.stop == "first_missing"
        for target, expert in predicted:
            cache = self.caches[target[1]]
            if expert in cache.resident or not self.fits_budget(now):
                continue
            if first_only and target != missing[0]:
                continue
            if self.take_slot(cache, expert, step, layer, activations):
                issued += 1
                at = now + (demand + issued) * self.clock.host.copy
                copy = Copy(expert, target[0], at)
                self.made.append(copy)
                cache.copies[expert] = copy
                cache.pinned.add(expert)
        self.gpu.ahead = issued

    def fits_budget(self, now: int) -> bool:
        """Prefetches in the works, be they promoted, evicted, or late for their layer."""
        budget = self.config.prefetch.budget
        works = [c for c in self.made if c.state != CANCELLED and not c.ended(now)]
        return budget is None or (len(works) + 1) * self.size <= budget

    def take_slot(
        self, cache: Cache, expert: Expert, step: int, layer: int, activations: list[Activation]
    ) -> bool:
        if len(cache.resident) >= cache.slots:
            needed = {(layer, activation.expert) for activation in activations}
            candidates = sorted(cache.resident - cache.pinned - needed)
            if not candidates:
                return False
            cache.evict(cache.victim_of_prefetch(candidates, expert, step, layer), "prefetch")
        cache.resident.add(expert)
        cache.policy.prefetched(expert, cache.now)
        return True

    def of_layer(self, step: int, layer: int) -> list[Copy]:
        return [c for c in self.made if c.step == step and c.expert[0] == layer]
