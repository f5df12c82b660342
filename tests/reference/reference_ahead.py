"""When prefetches are issued, start, and end: one GPU (docs/semantics.md, "Prefetch")."""

from __future__ import annotations

from .reference_cache import Cache
from .reference_clock import Clock
from .reference_misses import LOAD
from .reference_policies import Expert
from .reference_prefetch import CANCELLED, PROMOTED, QUEUED, STARTED, Copy, Predictions
from .reference_storage_ahead import HostAhead
from .reference_variants import VariantCaches
from .reference_words import PREDICTION, PREFILL, STORAGE, Activation, Config, Span

Predicted = tuple[tuple[int, int], Expert, int]  # (pass, layer) that it is for, in which variant


def prefetches(config: Config, phases: set[int]) -> bool:
    """Whether there are any in this run."""
    blocks = config.software.blocking and config.execution != "graph"
    around = config.prefill != "cache" and PREFILL in phases
    lists = config.policy in {"stream", "arc", "s3fifo"}
    beside = (config.software.overlap and not blocks) or config.prefetch.when == "before_pass"
    beside = beside and not around and not lists
    return config.prefetch.kind != "none" and beside


class Ahead:
    """The prefetches of one GPU; ``caches[m]`` has the slots of its MoE layer m, ``variants[m]``
    those of every variant, where experts have some.
    """

    def __init__(
        self,
        clock: Clock,
        g: int,
        caches: dict[int, Cache],
        predictions: Predictions,
        variants: dict[int, VariantCaches],
    ) -> None:
        self.clock, self.g, self.predictions = clock, g, predictions
        self.variants = variants
        self.caches = {m: [cache] for m, cache in caches.items()}
        self.caches |= {m: of.caches for m, of in variants.items()}
        self.config, self.gpu = clock.config, clock.gpus[g]
        self.gpu.run_copies = self.run_copies
        self.made: list[Copy] = []
        self.window: list[Copy] = []  # before the pass, or one before it
        self.seen = 0  # until when copies have begun that could

    @property
    def host(self) -> HostAhead | None:
        """What the GPU's copies come from, where that does not hold all experts."""
        for host in self.clock.hosts:
            if self.g in host.gpus:
                assert isinstance(host, HostAhead)
                return host
        return None

    def run_copies(self, now: int) -> None:
        """Those that start before ``now``: the demand copies of the layer before have ended. One
        that another held up, which was cancelled then, does not start earlier than that.
        """
        if self.host:
            self.host.read_ahead(now)
        for copy in self.made:
            if copy.state != QUEUED:
                continue
            read = self.host.may_copy(copy) if self.host else 0
            if read is None:
                break
            start = max(self.gpu.copy_in, copy.issued, read, self.seen)
            if start >= now:
                break
            self.start(copy, start)
        self.seen = now

    def load_before(self, step: int) -> None:
        """What is predicted before a pass, for it and those that follow: the pass waits for it."""
        choices, gpu, host = self.config.prefetch, self.gpu, self.clock.host.copy
        if choices.when != "before_pass" or step % choices.every:
            return
        if self.clock.predicts:
            gpu.t += choices.cost
            gpu.charge(PREDICTION, gpu.t)
        now, blocks = gpu.t, self.config.software.blocking and self.config.execution != "graph"
        predicted = self.predicted(None, self.predictions.coming(step))
        self.keep(predicted)
        made: list[Copy] = []
        for target, expert, variant in predicted:
            cache = self.caches[target[1]][variant]
            there = self.there(expert, variant) is not None
            if there or not self.fits_budget(expert, variant, now):
                continue
            if self.take_slot(cache, expert, step - 1, cache.layers[-1], []):
                at = now + (len(made) + 1) * host
                made.append(Copy(expert, target[0], at, variant=variant))
                self.made.append(made[-1])
                cache.copies[expert] = made[-1]
                self.keep([(target, expert, variant)])
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

    def predicted(
        self, at: tuple[int, int] | None, targets: list[tuple[int, int]]
    ) -> list[Predicted]:
        """Experts of ``targets``, (pass, layer), seen from the one that was just decided."""
        found: list[Predicted] = []
        for target in targets:
            step, m = target
            if self.caches[m][0].all_resident:
                continue
            for e in self.predictions.of(at or target, target, self.g):
                variant: int | None = 0
                if self.variants:
                    variant = self.variants[m].fetched(self.predictions.passes[step], m, e)
                if variant is not None:
                    found.append((target, (m, e), variant))
        return found

    def there(self, expert: Expert, variant: int) -> Cache | None:
        """The slots that have an expert in what does where a variant is wanted."""
        caches = self.caches[expert[0]]
        if self.variants:
            found = self.variants[expert[0]].there(expert, variant)
            return None if found is None else caches[found]
        return caches[0] if expert in caches[0].resident else None

    def keep(self, predicted: list[Predicted]) -> None:
        """Those that are there, until the last (pass, layer) for which they are predicted."""
        for target, expert, variant in predicted:
            cache = self.there(expert, variant)
            if cache is not None:
                cache.pinned.add(expert)
                cache.until[expert] = target

    def start(self, copy: Copy, at: int) -> None:
        copy.run(at, self.clock.copy_ns(self.size(copy.expert, copy.variant)))
        self.gpu.copy_in = copy.end
        layer, e = copy.expert
        self.clock.spans.append(Span(copy.step, layer, self.g, "copy_in", (e,), at, copy.end))

    def end_layer(self, step: int, layer: int, served: dict[int, int]) -> None:
        """``served``: in which variant each needed expert is."""
        for copy in self.made:
            mine, e = copy.expert
            cache = self.caches[layer][copy.variant]
            if mine == layer and copy.state == QUEUED and served.get(e) != copy.variant:
                copy.state = CANCELLED
                if self.host:
                    self.host.cancel(copy)
                cache.resident.remove(copy.expert)
                del cache.copies[copy.expert]
        for cache in self.caches[layer]:
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
        ahead = self.predictions.layers_ahead(step, layer)
        predicted = self.predicted((step, layer), ahead)
        self.keep(predicted)
        missing = [at for at, expert, variant in predicted if self.there(expert, variant) is None]
        first_only = self.config.prefetch.stop == "first_missing"
        for target, expert, variant in predicted:
            cache = self.caches[target[1]][variant]
            there = self.there(expert, variant) is not None
            if there or not self.fits_budget(expert, variant, now):
                continue
            if first_only and target != missing[0]:
                continue
            needed = [one for one in activations if one.variant == variant]
            if self.take_slot(cache, expert, step, layer, needed):
                issued += 1
                at = now + (demand + issued) * self.clock.host.copy
                copy = Copy(expert, target[0], at, variant=variant)
                self.made.append(copy)
                cache.copies[expert] = copy
                self.keep([(target, expert, variant)])
        self.gpu.ahead = issued
        if self.host:
            self.host.prefetch(step, layer, self.made[len(self.made) - issued :], now)

    def fits_budget(self, expert: Expert, variant: int, now: int) -> bool:
        """Prefetches in the works, be they promoted, evicted, or late for their layer."""
        budget = self.config.prefetch.budget
        works = [c for c in self.made if c.state != CANCELLED and not c.ended(now)]
        used = sum(self.size(c.expert, c.variant) for c in works)
        return budget is None or used + self.size(expert, variant) <= budget

    def size(self, expert: Expert, variant: int) -> int:
        if self.config.variants:
            return self.config.variants[variant].expert_bytes
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

    def bytes_of_pass(self, step: int) -> int:
        """What was copied of the prefetches for a pass."""
        made = [c for c in self.made if c.step == step and c.state in (STARTED, PROMOTED)]
        return sum(self.size(c.expert, c.variant) for c in made)
