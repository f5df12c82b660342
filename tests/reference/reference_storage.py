"""Host memory that does not hold all experts, and the drive below it (docs/semantics.md)."""

from __future__ import annotations

import zlib
from dataclasses import replace

from .reference_cache import Drawn, filling
from .reference_misses import SKIP
from .reference_placement import physical_experts
from .reference_policies import POLICIES, Arrival, Expert
from .reference_words import Activation, Config, Model, Prices


class Host:
    """One node's host memory: whole experts of all layers, and a drive that reads one behind the
    other.
    """

    def __init__(
        self, config: Config, model: Model, prices: Prices, node: int, usage: dict[Expert, int]
    ) -> None:
        assert config.host_slots is not None
        self.config, self.model, self.prices = config, model, prices
        self.slots = config.host_slots if config.host_bytes is None else config.host_bytes
        usage = self.named_apart(usage)
        experts = sorted(usage)
        self.resident: set[Expert] = set()
        if config.initial != "empty":
            drawn = [config.seed, zlib.crc32(b"host_cache.initial"), node]
            for e in filling(config.initial, experts, usage, drawn):
                if not self.has_room(e):
                    break
                self.resident.add(e)
        each = config.gpus // config.nodes
        self.gpus = range(node * each, (node + 1) * each)
        self.policy = POLICIES[config.host_policy](
            config, experts, slots=self.slots, resident=sorted(self.resident), usage=usage,
            uses={e: [] for e in experts},
            uniform=Drawn([config.seed, zlib.crc32(b"host_cache.random"), node]),
            layers=list(range(len(model.moe_layers))),
        )  # fmt: skip
        self.held = [
            physical_experts(m, model, config) for m in range(len(model.moe_layers))
        ]  # the logical expert of each physical one
        self.now = self.free = self.hits = self.reads = self.bytes = 0

    def named_apart(self, usage: dict[Expert, int]) -> dict[Expert, int]:
        """Each part of a sliced expert is kept, and read, by itself."""
        parts = self.config.parts
        return {(m, e * parts + p): n for (m, e), n in usage.items() for p in range(parts)}

    def size(self, expert: Expert) -> int:
        return self.model.stored_in(expert[0])

    def has_room(self, expert: Expert) -> bool:
        """Without an eviction."""
        by_bytes = self.config.host_bytes is not None
        sizes = [self.size(e) if by_bytes else 1 for e in [*self.resident, expert]]
        return sum(sizes) <= self.slots

    def busy(self, m: int, queued: bool = True) -> int:
        """What a read of an expert of MoE layer ``m`` takes, behind others or alone."""
        return self.busy_of(self.model.stored_in(m), queued)

    def busy_of(self, size: int, queued: bool = True) -> int:
        return self.prices.storage_read_ns(size, self.config.reads, self.config.mapped, queued)

    def lead(self, m: int) -> int:
        """How long before the end of its read a copy may begin."""
        size, chunk = self.model.bytes_in(m), self.config.read_chunk
        copy = self.config.copy_ns(replace(self.model, expert_bytes=size), self.prices)
        chunks = -(-self.model.stored_in(m) // chunk) if chunk else 1
        return min(self.busy(m), copy) * (chunks - 1) // chunks

    def layer(self, step: int, m: int, g: int, activations: list[Activation], known: int) -> None:
        """What the misses of a layer on one GPU want from host memory, which is read where it is
        not there.
        """
        parts = self.config.parts
        held = [e * parts + g % parts for e in self.held[m]]
        wanted = sorted(
            {(m, held[one.expert]) for one in activations if one.missed and one.place != SKIP}
        )
        self.free = max(self.free, known)
        there: dict[Expert, int | None] = {}
        for place, expert in enumerate(wanted):
            there[expert] = self.fetch(step, m, expert, wanted, place)
        for one in activations:
            if one.missed and one.place != SKIP:
                one.read = there[m, held[one.expert]]

    def whole(self, step: int, m: int, g: int, local: list[int], now: int) -> list[int | None]:
        """When each of the experts of a GPU, all of which are wanted now, is in memory; None where
        it is.
        """
        parts = self.config.parts
        held = [self.held[m][e] * parts + g % parts for e in local]
        wanted = sorted({(m, e) for e in held})
        self.free = max(self.free, now)
        there = {e: self.fetch(step, m, e, wanted, place) for place, e in enumerate(wanted)}
        return [there[m, e] for e in held]

    def fetch(
        self, step: int, m: int, expert: Expert, wanted: list[Expert], place: int
    ) -> int | None:
        """When an expert that is not in memory is; None where it is."""
        hit = self.wants(step, m, expert, wanted, place)
        self.hits += hit
        return None if hit else self.read(self.size(expert))

    def wants(self, step: int, m: int, expert: Expert, wanted: list[Expert], place: int) -> bool:
        """Whether an expert is in memory, where it is from now on."""
        if not self.slots:  # nothing is kept
            return False
        hit = expert in self.resident
        arrival = Arrival(self.now, step, m, expert, hit, 0)
        self.policy.seen(arrival)
        victim = None
        if not hit:
            while not self.has_room(expert):
                victim = self.victim(wanted, place, arrival)
                self.resident.remove(victim)
            self.resident.add(expert)
        self.policy.ended(arrival, victim)
        self.now += 1
        return hit

    def read(self, size: int) -> int:
        """When what the drive turns to now, of so many bytes, is in memory."""
        self.reads, self.bytes = self.reads + 1, self.bytes + size
        self.free += self.busy_of(size)
        return self.free + self.busy_of(size, queued=False) - self.busy_of(size)

    def victim(self, wanted: list[Expert], place: int, arrival: Arrival) -> Expert:
        candidates = sorted(self.resident - set(wanted))
        if not candidates:
            candidates = sorted(self.resident & set(wanted[:place]))
        if candidates:
            return self.policy.victim(candidates, arrival)
        return [e for e in wanted if e in self.resident][-1]
