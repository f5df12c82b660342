"""Which variant of an expert serves an activation (docs/semantics.md, "Variants")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.memory.activations import Activations, ActiveExperts
from moesim.memory.decisions import ACTIVATIONS, RULES, Demand, decide_with
from moesim.memory.forms import Form
from moesim.memory.misses.load import Load
from moesim.memory.policy import WANTED, CachePolicy
from moesim.memory.policy_reads import Reads
from moesim.memory.residency import LayerCache, specialised_by
from moesim.memory.split import OFFERED
from moesim.memory.variants import Variants
from moesim.runtime.compiled import inlined, record, types

Ints = NDArray[np.int64]


class Serving(NamedTuple):
    """Which variant serves: ``loaded`` int64[variants + 1], what is loaded where none that serves
    is resident, by the wanted one (its number of variants: nothing, the expert is left out);
    whether a ``worse`` one than wanted serves; ``upgraded`` as ``Variants`` has it; and what is
    loaded ``instead`` where all of a step would be left out, -1: nothing.
    """

    loaded: Any
    worse: Any
    upgraded: Any
    instead: Any


class Pools(NamedTuple):
    """The slots of each variant in a pool: ``slots`` int64[variants], which experts are
    ``resident`` bool[variants, experts], the policy's ``state`` int64[variants, rows, experts], its
    time ``now`` int64[variants], and ``draws`` float64[variants, activations].
    """

    slots: Any
    resident: Any
    state: Any
    now: Any
    draws: Any


class Wanted(NamedTuple):
    """What steps need: ``offsets`` and ``experts`` as of ``ActiveExperts``; aligned with these the
    ``variant`` that is wanted, and gate ``weights`` int64, or empty where no policy reads them.
    """

    offsets: Any
    experts: Any
    variant: Any
    weights: Any


_FLAT, _INT = types.int64[::1], types.int64
SERVING = record(Serving, _FLAT, types.boolean, types.int64[:, ::1], _INT)
POOLS = record(
    Pools, _FLAT, types.boolean[:, ::1], types.int64[:, :, ::1], _FLAT, types.float64[:, ::1]
)
ASKED = record(Wanted, *[_FLAT] * 4)
SERVE = types.void(RULES, SERVING, POOLS, ASKED, _INT, ACTIVATIONS)
"""The signature of what ``serve_with`` makes."""


@inlined
def _serving(serving: Any, resident: Any, expert: int, wanted: int) -> int:
    """The variant that serves: the best resident one up to the wanted one, else the best of all if
    worse ones do, else what is loaded.
    """
    variants = len(resident)
    for variant in range(variants if serving.worse else min(wanted + 1, variants)):
        if resident[variant, expert]:
            return variant
    return int(serving.loaded[wanted])


@inlined
def _of_variant(
    pools: Any, wanted: Any, served: Any, low: int, variant: int, needed: Any, weights: Any
) -> int:
    """Fill in the experts ``needed`` of a step, from ``low`` on, that are ``served`` as
    ``variant``, and their weights, if these are read; returns how many there are.
    """
    size = 0
    for i in range(len(served)):
        if served[i] == variant:
            expert = wanted.experts[low + i]
            pools.state[variant, WANTED, expert] = wanted.variant[low + i]
            needed[size] = expert
            if len(weights) > 0:
                weights[size] = wanted.weights[low + i]
            size += 1
    return size


@inlined
def _some_served(served: Any, variants: int, instead: int) -> None:
    """Where all of a step would be left out, each is loaded as variant ``instead``."""
    some = instead < 0
    for i in range(len(served)):
        some |= served[i] < variants
    if not some:
        served[:] = instead


@inlined
def _form_of(upgraded: Any, resident: Any, expert: int, variant: int) -> int:
    """How a missing ``variant`` is loaded: as its difference from the best slice that is there."""
    for worse in range(variant + 1, len(resident)):
        if upgraded[variant, worse] != variant and resident[worse, expert]:
            return int(upgraded[variant, worse])
    return variant


@inlined
def _renumber(
    out: Any, low: int, high: int, variant: int, launches: int, upgraded: Any, resident: Any
) -> int:
    """Activations of ``variant``, whose launches follow so many; returns how many there are
    then.
    """
    last = launches
    for i in range(low, high):
        out.form[i] = variant
        if not out.hit[i]:
            out.form[i] = _form_of(upgraded, resident, out.expert[i], variant)
        if out.launch[i] >= 0:
            out.launch[i] += launches
            last = max(last, out.launch[i] + 1)
        if out.wait[i] >= 0:
            out.wait[i] += launches
    return last


@inlined
def _skip(out: Any, at: int, expert: int, form: int) -> None:
    """An expert that nothing computes."""
    out.expert[at], out.hit[at], out.form[at] = expert, False, form
    out.launch[at], out.wait[at], out.victim[at] = -1, -1, -1


def serve_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    splits: bool, reads: Reads,
) -> Callable[..., None]:  # fmt: skip
    """The decisions of a policy with these functions, variant by variant; see ``decide_with``."""
    decide = inlined(
        decide_with(key, before_activation, after_activation, place, forms, splits, reads)
    )

    def serve(rules: Any, serving: Any, pools: Any, wanted: Any, first_step: int, out: Any) -> None:
        """The activations of every step of a pool, from ``first_step`` on: variant by variant, the
        best first, each decided in its own slots, and last what is skipped.

        Which variant serves is decided at the start of a step, by what is resident then.
        """
        variants, count = pools.resident.shape[0], len(wanted.experts)
        none, prices = np.empty(0, np.int64), np.empty((OFFERED, 0), np.int64)
        moved, step = np.zeros(1, np.int64), np.zeros(2, np.int64)
        served, needed = np.empty(count, np.int64), np.empty(count, np.int64)
        weights = np.empty(len(wanted.weights), np.int64)
        for number in range(len(wanted.offsets) - 1):
            low, high = wanted.offsets[number], wanted.offsets[number + 1]
            for i in range(low, high):
                expert = wanted.experts[i]
                served[i] = _serving(serving, pools.resident, expert, wanted.variant[i])
            _some_served(served[low:high], variants, serving.instead)
            at, launches = low, 0
            for variant in range(variants):
                size = _of_variant(pools, wanted, served[low:high], low, variant, needed, weights)
                if size == 0:
                    continue
                step[1], end = size, at + size
                demand = Demand(
                    step, needed[:size], none, weights[:size], prices, pools.draws[variant], moved
                )
                mine = Activations(
                    out.expert[at:end], out.hit[at:end], out.launch[at:end], out.wait[at:end],
                    out.victim[at:end], out.form[at:end],
                )  # fmt: skip
                pools.now[variant] = decide(
                    rules, pools.slots[variant], demand, pools.resident[variant],
                    pools.state[variant], first_step + number, pools.now[variant], mine,
                )  # fmt: skip
                launches = _renumber(
                    out, at, end, variant, launches, serving.upgraded, pools.resident
                )
                at = end
            for i in range(low, high):
                if served[i] == variants:
                    _skip(out, at, wanted.experts[i], variants)
                    at += 1

    return serve


@lru_cache
def serve_of(policy: type[CachePolicy]) -> Any:
    """``serve`` of ``policy``, compiled; kept on disk."""
    return specialised_by(serve_with, SERVE, policy, Load)


class VariantCache:
    """The residency of one MoE layer on one GPU, or of a pool of layers, where every expert has
    ``variants``: ``caches`` of each, which this one takes over.
    """

    def __init__(
        self, policy: CachePolicy, variants: Variants, caches: Sequence[LayerCache]
    ) -> None:
        choice, count = variants.choice, len(variants.names)
        self._serve, self.rules = serve_of(type(policy)), caches[0].rules
        self._start_request = policy.start_request
        loaded = np.array(choice.loaded(count), np.int64)
        instead = count - 1 if choice.substitutes else -1
        self._serving = Serving(loaded, choice.worse, variants.upgraded, instead)
        self.slots = np.array([cache.slots for cache in caches], np.int64)
        self.resident = np.stack([cache.resident for cache in caches])
        self.state = np.stack([cache.state for cache in caches])
        self.draws = np.zeros((count, 0))
        self._now, self._step = np.zeros(count, np.int64), 0

    def start_request(self) -> None:
        """The next forward pass has other requests than the one before."""
        for state in self.state:
            self._start_request(state, self._step // self.rules.layers)

    def decide(
        self, active: ActiveExperts, wanted: Ints, weights: Ints | None = None
    ) -> Activations:
        """The activations of the coming steps; the ``wanted`` variant and ``weights`` int64 are
        aligned with ``active.experts``. ``form`` is the variant that serves.
        """
        out = Activations.empty(len(active.experts))
        pools = Pools(self.slots, self.resident, self.state, self._now, self.draws)
        none = np.empty(0, np.int64)
        asked = Wanted(active.offsets, active.experts, wanted, none if weights is None else weights)
        self._serve(self.rules, self._serving, pools, asked, self._step, out)
        self._step += len(active.offsets) - 1
        return out
