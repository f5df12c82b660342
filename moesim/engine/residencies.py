"""The expert caches of a run: one for each MoE layer and GPU that cannot hold all its experts."""

from __future__ import annotations

import zlib
from fractions import Fraction
from math import ceil

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.routing import Routing
from moesim.memory.residency import LayerCache, Needs, Turns, all_resident, next_uses
from moesim.trace.routing import NO_EXPERT

LEARNING_PART = 0.25
"""Share of the trace from which ``initial: most_used`` learns, unless the policy names its own."""

Key = tuple[int, int]
"""A MoE layer and a GPU."""


class Residencies:
    """State without a clock, carried from piece to piece in order."""

    def __init__(self, case: Case, routing: Routing) -> None:
        self.case, self.routing = case, routing
        self._future = self._look_ahead() if case.policy.looks_ahead and case.offloaded else {}
        self._caches = self._make_caches()

    def turns(self, key: Key, needs: Needs) -> Turns:
        """Decide the turns of ``needs``, the next of ``key``."""
        if key in self._caches:
            return self._caches[key].decide(needs, self._next_use(key, needs))
        return all_resident(needs, serial=self.case.kernels == "serial")

    def _look_ahead(self) -> dict[Key, tuple[Ints, Ints]]:
        """Next uses of the whole run, and first uses, by (MoE layer, GPU)."""
        parts: dict[Key, list[Needs]] = {}
        routing = self.routing
        for first, last in routing.pieces():
            counts, active = routing.counts(first, last).sum(axis=2), routing.active(first, last)
            for layer in range(len(routing.moe_layers)):
                for gpu in range(self.case.gpus):
                    needs = routing.needs(counts[:, layer], active[:, layer], gpu)
                    parts.setdefault((layer, gpu), []).append(needs)
        return {
            key: next_uses(_joined(needs), len(routing.local[key[1]]))
            for key, needs in parts.items()
        }

    def _usage(self, layer: int) -> Ints:
        """Choices of each expert in the part of the trace from which the policy learns."""
        trace = self.case.trace
        share = self.case.policy.learning_part() or LEARNING_PART
        part = ceil(Fraction(str(share)) * trace.tokens)
        ids = trace.expert_ids[:part, layer]
        return np.bincount(ids[ids != NO_EXPERT], minlength=self.routing.experts)

    def _make_caches(self) -> dict[Key, LayerCache]:
        case = self.case
        return {
            (layer, gpu): self._make_cache(layer, gpu)
            for layer in range(len(self.routing.moe_layers))
            for gpu in range(case.gpus)
            if not case.holds_all(gpu)
        }

    def _make_cache(self, layer: int, gpu: int) -> LayerCache:
        case, usage = self.case, self._usage(layer)[self.routing.local[gpu]]
        draws = None
        if case.policy.draws:
            stream = [case.seed, zlib.crc32(b"cache_policy.random"), gpu, layer]
            turns = len(usage) * case.schedule.passes
            if not case.gating.invokes_all:
                turns = min(turns, case.trace.top_k * len(case.schedule.rows))
            draws = np.random.default_rng(stream).random(turns)
        most_used = np.argsort(-usage, kind="stable")[: case.slots[gpu]]
        return LayerCache(
            case.policy,
            case.slots[gpu],
            usage,
            serial=case.kernels == "serial",
            resident_first=case.order == "resident_first",
            draws=draws,
            resident=most_used if case.initial == "most_used" else None,
            first_use=self._future[layer, gpu][1] if (layer, gpu) in self._future else None,
        )

    def _next_use(self, key: Key, needs: Needs) -> Ints | None:
        """The slice of the run's next uses that belongs to ``needs``; chunks come in order."""
        if key not in self._future:
            return None
        after, first_use = self._future[key]
        self._future[key] = after[len(needs.experts) :], first_use
        return np.ascontiguousarray(after[: len(needs.experts)])


def _joined(parts: list[Needs]) -> Needs:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    experts = np.concatenate([part.experts for part in parts])
    return Needs(np.concatenate(([0], np.cumsum(lengths))), experts)
