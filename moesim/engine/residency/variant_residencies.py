"""The expert caches of GPUs that keep every expert in several formats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.prefetch import Asked, Fetched
from moesim.engine.residency.pool_runs import Coming, Run
from moesim.engine.residency.residencies import OF_PREFETCHES, Residencies, usage_of
from moesim.engine.routing import Key, Routing
from moesim.memory.activations import Activations, ActiveExperts, steps_of
from moesim.memory.choices.base import Seen
from moesim.memory.slots.residency import LayerCache
from moesim.memory.slots.variant_cache import VariantCache
from moesim.memory.variants import Variants
from moesim.runtime.compiled import njit, types
from moesim.trace.routing import NO_EXPERT

NONE_WANTED = np.zeros((0, 0, 0), np.int8)


@njit(
    types.void(
        types.uint16[:, :, ::1], types.uint8[:, :, ::1], types.int64[::1], types.int8[:, :, ::1]
    ),
    cache=True,
)
def least_wanted(ids: Any, wants: Any, of_pass: Any, wanted: Any) -> None:
    """Lower ``wanted`` [passes, MoE layers, experts] to the variants that tokens want of their
    choices ``ids`` [tokens, MoE layers, k], ``wants`` likewise.
    """
    for token in range(ids.shape[0]):
        for layer in range(ids.shape[1]):
            of_layer = wanted[of_pass[token], layer]
            for rank in range(ids.shape[2]):
                expert = ids[token, layer, rank]
                if expert != NO_EXPERT:
                    of_layer[expert] = min(of_layer[expert], wants[token, layer, rank])


class VariantResidencies(Residencies):
    """``Residencies`` of a case with variants: caches are of all variants of a pool."""

    def __init__(self, case: Case, routing: Routing, variants: Variants) -> None:
        self.variants = variants
        self.limits = np.array(variants.choice.limits(variants.names), np.int64)
        part = variants.choice.learning_part()
        layers = range(len(routing.moe_layers) if part else 0)
        usage = [usage_of(case, routing, layer, part) for layer in layers]
        self.usage = np.stack(usage) if usage else np.zeros((0, 0), np.int64)
        super().__init__(case, routing)

    def mark(self) -> tuple[Any, ...]:
        """See ``Residencies``."""
        return super().mark(), {key: one.mark() for key, one in self.of_pools.items()}

    def back(self, mark: tuple[Any, ...]) -> None:
        """See ``Residencies``."""
        super().back(mark[0])
        for key, of_pool in mark[1].items():
            self.of_pools[key].back(of_pool)

    def wanted(self, first: int, last: int) -> NDArray[np.int8]:
        """The variant that passes first:last want of each expert, of each replica where some have
        more than one, int8[passes, MoE layers, ``Routing.numbers``]; the number of variants where
        they want none.
        """
        ids, weights, of_pass = self.routing.chosen_weights(first, last)
        wants = self.wants_of(ids, weights)
        shape = (last - first, ids.shape[1], self.routing.numbers)
        wanted = np.full(shape, len(self.limits), np.int8)
        numbered = self.routing.numbered(first, last)
        least_wanted(numbered, wants, of_pass, wanted)
        return wanted

    def wants_of(self, ids: NDArray[np.uint16], weights: Ints) -> NDArray[np.uint8]:
        """The variant that tokens want of each of their choices ``ids``, which have such gate
        ``weights``, uint8[tokens, MoE layers, k]; the number of variants where they want none.
        """
        return self.variants.choice.wanted(Seen(ids, weights, self.usage), self.limits)

    def fetched(self, first: int, last: int) -> Fetched:
        """See ``Residencies``."""
        count, how = len(self.variants.names), self.case.prefetch.variant
        wanted = self.wanted(first, last) if how == "wanted" else None
        always = {"high": 0, "low": count - 1}.get(how)
        return Fetched(np.array(self.variants.choice.loaded(count), np.int64), always, wanted)

    def cache_of(self, key: Key) -> VariantCache:
        """The slots of all variants of a MoE layer on a GPU, which does not hold it whole."""
        layer, gpu = key
        (pool,) = [pool for pool, of_gpu in self._cached if of_gpu == gpu and layer in pool]
        return self.of_pools[pool[0], gpu]

    def _told(self, coming: Coming) -> dict[str, Callable[[Key], Ints]]:
        """See ``Residencies``: the wanted variants too."""
        active_experts, first, last, _ = coming
        wanted = self.wanted(first, last) if self._cached else NONE_WANTED

        def of_layer(key: Key) -> Ints:
            active, numbers = active_experts[key], self.routing.numbers_of(*key)
            cells = steps_of(active.offsets), key[0], numbers[active.experts]
            found: Ints = wanted[cells].astype(np.int64)
            return found

        return super()._told(coming) | {"wanted": of_layer}

    def _decide(self, key: Key, run: Run, needs: ActiveExperts, asked: Asked) -> Activations:
        """See ``Residencies``; forms are variants."""
        assert asked.wanted is not None, "variants are wanted"
        if run.restarts:
            self.of_pools[key].start_request()
        return self.of_pools[key].decide(needs, asked.wanted, asked.weights)

    def draw(self) -> bool:
        """See ``Residencies``."""
        drawn = False
        for pool, gpu in self._cached if self.case.policy.draws else ():
            cache, most = self.of_pools[pool[0], gpu], self._most_activations(gpu)
            most *= len(pool)
            if most > (known := cache.draws.shape[1]):
                number = max(most, 2 * known) - known
                more = np.stack([one.random(number) for one in self._draws[pool[0], gpu]])
                cache.draws, drawn = np.concatenate((cache.draws, more), axis=1), True
                for of_variant, row in zip(cache.caches, cache.draws, strict=True):
                    of_variant.draws = row
        return drawn

    def _open(self) -> None:
        keys = [(pool[0], gpu) for pool, gpu in self._cached]
        self.of_pools = {
            key: self._make_caches(*one) for key, one in zip(keys, self._cached, strict=True)
        }
        """The slots of all variants, by pool and GPU."""
        layers, numbers = len(self.routing.moe_layers), range(len(self.variants.names))
        drawn = keys if self.case.policy.draws else []
        self._draws = {key: [self._stream(key, variant=one) for one in numbers] for key in drawn}
        for (layer, gpu), cache in self.of_pools.items():
            for variant, of_variant in enumerate(cache.caches):
                self.caches[variant * layers + layer, gpu] = of_variant
                if variant and self.case.policy.draws:
                    of_variant.prefetch_draws = self._stream((layer, gpu), OF_PREFETCHES, variant)
        self.draw()

    def _make_caches(self, pool: tuple[int, ...], gpu: int) -> VariantCache:
        """Each variant's slots; what is preloaded into one is in no better one, if it can be."""
        caches, before = list[LayerCache](), 0
        experts = len(pool) * len(self.routing.local[gpu])
        for slots in self.variants.slots[:, gpu, list(pool)].sum(axis=1).tolist():
            caches.append(self._make_cache(pool, gpu, slots, max(0, min(before, experts - slots))))
            before += slots
        return VariantCache(self.case.policy, self.variants, caches)
