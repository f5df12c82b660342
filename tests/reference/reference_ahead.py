"""When prefetches are issued, start, and end: one GPU (docs/semantics.md, "Prefetch")."""

from __future__ import annotations

from .reference_cache import Cache
from .reference_clock import Clock
from .reference_misses import LOAD
from .reference_policies import Expert
from .reference_prefetch import CANCELLED, QUEUED, Copy, Predictions
from .reference_storage_ahead import HostAhead
from .reference_words import PREDICTION, PREFILL, STORAGE, Activation, Config, Span


def prefetches(config: Config, phases: set[int]) -> bool:
    """Whether there are any in this run."""
    blocks = config.software.blocking and config.execution != "graph"
    around = config.prefill != "cache" and PREFILL in phases
    lists = config.policy in {"stream", "arc", "s3fifo"}
    beside = (config.software.overlap and not blocks) or config.prefetch.when == "before_pass"
    beside = beside and not around and not lists
    return config.prefetch.kind != "none" and beside


class Ahead:
    """The prefetches of one GPU; ``caches[m]`` has the slots of its MoE layer m."""

    def __init__(
        self, clock: Clock, g: int, caches: dict[int, Cache], predictions: Predictions
    ) -> None:
        self.clock, self.g, self.caches, self.predictions = clock, g, caches, predictions
        self.config, self.gpu = clock.config, clock.gpus[g]
        self.made: list[Copy] = []
        self.window: list[Copy] = []  # before the pass, or one before it

    @property
    def host(self) -> HostAhead | None:
        """What the GPU's copies come from, where that does not hold all experts."""
        for host in self.clock.hosts:
            if self.g in host.gpus:
                assert isinstance(host, HostAhead)
                return host
        return None

    def run_copies(self, now: int) -> None:
        """Those that start before ``now``: the demand copies of the layer before have ended."""
        if self.host:
            self.host.read_ahead(now)
        for copy in self.made:
            if copy.state != QUEUED:
                continue
            read = self.host.may_copy(copy) if self.host else 0
            if read is None:
                return
            start = max(self.gpu.copy_in, copy.issued, read)
            if start >= now:
                return
            self.start(copy, start)

    def load_before(self, step: int) -> None:
        """What is predicted before a pass, for it and those that follow: the pass waits for it."""
        choices, gpu, host = self.config.prefetch, self.gpu, self.clock.host.copy
        if choices.when != "before_pass" or step % choices.every:
            return
        if self.clock.predicts:
            gpu.t += choices.cost
            gpu.charge(PREDICTION, gpu.t)
        now, blocks = gpu.t, self.config.software.blocking and self.config.execution != "graph"
        predicted = [
            (target, (target[1], e))
            for target in self.predictions.coming(step)
            if not self.caches[target[1]].all_resident
            for e in self.predictions.of(target, target, self.g)
        ]
        self.keep(predicted)
        made: list[Copy] = []
        for target, expert in predicted:
            cache = self.caches[target[1]]
            if expert in cache.resident or not self.fits_budget(expert, now):
                continue
            if self.take_slot(cache, expert, step - 1, cache.layers[-1], []):
                at = now + (len(made) + 1) * host
                made.append(Copy(expert, target[0], at))
                self.made.append(made[-1])
                cache.copies[expert] = made[-1]
                self.keep([(target, expert)])
        self.keep(predicted)
        until = self.host.before(step, made, now) if self.host and made else 0
        for copy in made:
            start = max(now, gpu.copy_in) + host if blocks else max(copy.issued, gpu.copy_in)
            self.start(copy, max(start, (self.host and self.host.may_copy(copy)) or 0))
        gpu.charge(STORAGE, until)
        self.window = made
        gpu.t = max(gpu.t, *(copy.end for copy in made), 0)
        gpu.charge("waiting_for_weights", gpu.t)
        if made:
            gpu.host = gpu.t if blocks else max(gpu.host, now) + len(made) * host

    def keep(self, predicted: list[tuple[tuple[int, int], Expert]]) -> None:
        """Those that are there, until the last (pass, layer) for which they are predicted."""
        for target, expert in predicted:
            cache = self.caches[target[1]]
            if expert in cache.resident:
                cache.pinned.add(expert)
                cache.until[expert] = target

    def start(self, copy: Copy, at: int) -> None:
        copy.run(at, self.clock.copy_ns(self.size(copy.expert)))
        self.gpu.copy_in = copy.end
        layer, e = copy.expert
        self.clock.spans.append(Span(copy.step, layer, self.g, "copy_in", (e,), at, copy.end))

    def end_layer(self, step: int, layer: int, needed: list[int]) -> None:
        cache = self.caches[layer]
        for copy in self.made:
            mine, e = copy.expert
            if mine == layer and copy.state == QUEUED and e not in needed:
                copy.state = CANCELLED
                if self.host:
                    self.host.cancel(copy)
                cache.resident.remove(copy.expert)
                del cache.copies[copy.expert]
        over = {e for e in cache.pinned if e[0] == layer and cache.until[e] <= (step, layer)}
        cache.pinned -= over

    def read(self, step: int, layer: int, activations: list[Activation], now: int) -> None:
        """What a layer wants from the host, after what its activations evicted is cancelled."""
        if self.host:
            for copy in [copy for copy in self.host.queue if copy.state == CANCELLED]:
                self.host.cancel(copy)
            self.host.layer(step, layer, self.g, activations, now)

    def issue(self, step: int, layer: int, activations: list[Activation], now: int) -> None:
        """Step 4, after the activations of a layer."""
        if self.config.prefetch.when == "before_pass":
            return
        demand = sum(activation.place == LOAD for activation in activations)
        issued = 0
        predicted = [
            (target, (target[1], e))
            for target in self.predictions.layers_ahead(step, layer)
            if not self.caches[target[1]].all_resident
            for e in self.predictions.of((step, layer), target, self.g)
        ]
        self.keep(predicted)
        missing = [at for at, expert in predicted if expert not in self.caches[at[1]].resident]
        first_only = self.config.prefetch.stop == "first_missing"
        for target, expert in predicted:
            cache = self.caches[target[1]]
            if expert in cache.resident or not self.fits_budget(expert, now):
                continue
            if first_only and target != missing[0]:
                continue
            if self.take_slot(cache, expert, step, layer, activations):
                issued += 1
                at = now + (demand + issued) * self.clock.host.copy
                copy = Copy(expert, target[0], at)
                self.made.append(copy)
                cache.copies[expert] = copy
                self.keep([(target, expert)])
        self.gpu.ahead = issued
        if self.host:
            self.host.prefetch(step, layer, self.made[len(self.made) - issued :], now)

    def fits_budget(self, expert: Expert, now: int) -> bool:
        """Prefetches in the works, be they promoted, evicted, or late for their layer."""
        budget = self.config.prefetch.budget
        works = [c for c in self.made if c.state != CANCELLED and not c.ended(now)]
        used = sum(self.size(c.expert) for c in works)
        return budget is None or used + self.size(expert) <= budget

    def size(self, expert: Expert) -> int:
        return self.clock.model.bytes_in(expert[0])

    def take_slot(
        self, cache: Cache, expert: Expert, step: int, layer: int, activations: list[Activation]
    ) -> bool:
        if len(cache.resident) >= cache.slots:
            needed = {(layer, activation.expert) for activation in activations}
            candidates = sorted(cache.resident - cache.pinned - needed)
            if not candidates:
                return False
            victim = cache.victim_of_prefetch(candidates, expert, step, layer)
            self.lose(cache, victim)
            cache.evict(victim, "prefetch")
        cache.resident.add(expert)
        cache.policy.prefetched(expert, cache.now)
        return True

    def lose(self, cache: Cache, victim: Expert) -> None:
        """What is evicted before its copy begins is not read."""
        copy = cache.copies.get(victim)
        if self.host and copy is not None and copy.state == QUEUED:
            self.host.cancel(copy)

    def of_layer(self, step: int, layer: int) -> list[Copy]:
        return [c for c in self.made if c.step == step and c.expert[0] == layer]
