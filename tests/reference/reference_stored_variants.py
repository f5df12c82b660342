"""Host memory, and storage below it, of experts in several formats (docs/semantics.md)."""

from __future__ import annotations

from dataclasses import replace

from .reference_misses import SKIP, SUBSTITUTE
from .reference_policies import Expert
from .reference_storage import Host
from .reference_variants import bytes_of
from .reference_words import Activation


class HostVariants(Host):
    """Each variant of an expert is one of its own: those of a variant follow those of a better
    one. Of a variant that has a slice, the slice is the next one, and the rest its own.
    """

    def named_apart(self, usage: dict[Expert, int]) -> dict[Expert, int]:
        """Each expert as often as its variants have slots; all are used as often as it is."""
        experts, parts = self.model.experts, self.config.parts
        return {
            (m, (v * experts + e) * parts + p): n
            for (m, e), n in usage.items()
            for v in range(len(self.config.variants))
            for p in range(parts)
        }

    def size(self, expert: Expert) -> int:
        return self.kept_of(expert[1] // (self.model.experts * self.config.parts))

    def kept_of(self, variant: int) -> int:
        """Bytes of a variant without those that are kept as its slice."""
        variants = self.config.variants
        slices = [one.expert_bytes for one in variants[variant + 1 : variant + 2] if one.nested]
        return variants[variant].expert_bytes - sum(slices)

    def brought(self, activation: Activation) -> list[int]:
        """The variant that is loaded, and those inside that are not there."""
        found = [activation.variant]
        for inside in range(activation.variant + 1, len(self.config.variants)):
            if inside == activation.slice_of or not self.config.variants[inside].nested:
                break
            found.append(inside)
        return found

    def layer(self, step: int, m: int, g: int, activations: list[Activation], known: int) -> None:
        missed = [one for one in activations if one.missed and one.place not in (SKIP, SUBSTITUTE)]
        self.free = max(self.free, known)
        needs = {one.expert: self.names(m, g, one) for one in missed}
        wanted = sorted({name for of in needs.values() for name in of.values()})
        there: dict[Expert, int | None] = {}
        for place, name in enumerate(wanted):
            there[name] = self.fetch(step, m, name, wanted, place)
        for one in missed:
            of = needs[one.expert]
            read = {v: end for v, name in of.items() if (end := there[name]) is not None}
            if read:
                one.read, last = max(read.values()), max(read)
                one.lead = self.lead_of(one, self.kept_of(last))

    def names(self, m: int, g: int, activation: Activation) -> dict[int, Expert]:
        parts, experts = self.config.parts, self.model.experts
        logical = self.held[m][activation.expert]
        of = self.brought(activation)
        return {v: (m, (v * experts + logical) * parts + g % parts) for v in of}

    def lead_of(self, activation: Activation, size: int) -> int:
        """How long before the end of its last read a copy may begin."""
        chunk, copied = self.config.read_chunk, bytes_of(activation, self.model, self.config)
        copy = self.config.copy_ns(replace(self.model, expert_bytes=copied), self.prices)
        chunks = -(-size // chunk) if chunk else 1
        return max(0, min(self.busy_of(size), copy) * (chunks - 1) // max(chunks, 1))
