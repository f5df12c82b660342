"""The slots of one MoE layer on one GPU, its own or its part of a pool, decided pass by pass."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Ints
from moesim.memory.activations import Activations
from moesim.memory.policy import ARRIVING, PINNED, THIS_LAYER, THIS_PASS
from moesim.memory.slots.residency import NOT_BUSY, LayerCache
from moesim.runtime.compiled import code_of, njit, types

_FLAT, _MASK = types.int64[::1], types.boolean[::1]


@njit(types.int64(_MASK, _FLAT, _FLAT, types.int64, _FLAT), cache=True, _nrt=False)
def _pin(resident: Any, pins: Any, experts: Any, until: int, lacking: Any) -> int:
    """See ``LayerSlots.pin_all``; fills in the ``lacking`` ones, and returns how many there are."""
    number = 0
    for e in experts:
        if resident[e]:
            pins[e] = until
        else:
            lacking[number] = e
            number += 1
    return number


@njit(types.void(_FLAT, _FLAT, types.int64, _MASK), cache=True, _nrt=False)
def _open(pins: Any, to_come: Any, until: int, arriving: Any) -> None:
    """See ``LayerSlots.open``."""
    for e in range(len(pins)):
        if pins[e] <= until:
            pins[e] = 0
        arriving[e] = to_come[e] != 0


@njit(types.void(_FLAT, _MASK, _MASK, _MASK), cache=True, _nrt=False)
def _late(expert: Any, hit: Any, arriving: Any, late: Any) -> None:
    """See ``LayerSlots.late``."""
    for i in range(len(expert)):
        late[i] = hit[i] and arriving[expert[i]]


@cache
def _codes() -> tuple[Any, Any, Any]:
    return code_of(_pin), code_of(_open), code_of(_late)


@dataclass(frozen=True, eq=False)
class LayerSlots:
    """Layer ``place`` of the ``layers`` of a pool, of ``experts`` each; experts are numbered within
    the GPU, victims within the pool.
    """

    cache: LayerCache
    place: int
    layers: int
    experts: int

    @cached_property
    def first(self) -> int:
        """The layer's first expert in the pool."""
        return self.place * self.experts

    @property
    def span(self) -> slice:
        """The layer's experts in the pool."""
        return slice(self.first, self.first + self.experts)

    @cached_property
    def resident(self) -> NDArray[np.bool_]:
        """bool[experts]: which have a slot, as the cache has it."""
        return self.cache.resident[self.span]

    @cached_property
    def lacking(self) -> Ints:
        """Room int64[experts] for those that have no slot."""
        return np.empty(self.experts, np.int64)

    @cached_property
    def pins(self) -> Ints:
        """Until which layer each is kept, int64[experts], as the cache has it."""
        return self.cache.state[PINNED, self.span]

    @cached_property
    def to_come(self) -> Ints:
        """int64[experts], as the cache has it: 1 where a copy has not ended."""
        return self.cache.state[ARRIVING, self.span]

    def __contains__(self, expert: int) -> bool:
        return bool(self.resident[expert])

    @cached_property
    def arriving(self) -> NDArray[np.bool_]:
        """bool[experts]: whose copy had not ended when the layer was opened."""
        return np.zeros(self.experts, np.bool_)

    def arrived(self, expert: int) -> None:
        """Its copy has ended."""
        self.to_come[expert] = 0

    def open(self, until: int) -> None:
        """Lift the layer's pins of what is kept until layer ``until``, or less long, and note what
        is ``arriving``: it is about to be decided.
        """
        _codes()[1](self.pins, self.to_come, until, self.arriving)

    def late(self, expert: Ints, hit: NDArray[np.bool_], late: NDArray[np.bool_]) -> None:
        """Fill in which activations of what was decided last wait for a copy, bool[activations]."""
        _codes()[2](expert, hit, self.arriving, late)

    def pin(self, expert: int, until: int) -> None:
        """Keep ``expert`` until layer ``until`` (one more than its number in execution order)."""
        self.pins[expert] = until

    def pin_all(self, experts: Ints, until: int) -> list[int]:
        """As ``pin``, those of ``experts`` that have a slot; returns the others."""
        number = _codes()[0](self.resident, self.pins, experts, until, self.lacking)
        lacking: list[int] = self.lacking[:number].tolist()
        return lacking

    def stand_before(self, step: int) -> None:
        """For the policy the last layer of the pass before ``step`` is at hand."""
        state = self.cache.state
        state[THIS_PASS, 0], state[THIS_LAYER, 0] = step - 1, self.layers - 1

    def cancel(self, expert: int) -> None:
        """Free the slot of ``expert``, whose copy never comes."""
        self.resident[expert] = False
        self.arrived(expert)

    def prefetch(self, expert: int, until: int, busy: NDArray[np.bool_] = NOT_BUSY) -> int | None:
        """As ``LayerCache.prefetch``."""
        return self.cache.prefetch(self.first + expert, until, busy)

    def decide(
        self, step: int, experts: Ints, next_use: Ints | None, weights: Ints | None,
        prices: Ints | None,
    ) -> Activations:  # fmt: skip
        """The activations of pass ``step``."""
        at = step * self.layers + self.place
        if not self.place:
            return self.cache.decide_step(at, experts, next_use, weights, prices)
        activations = self.cache.decide_step(at, experts + self.first, next_use, weights, prices)
        return activations._replace(expert=activations.expert - self.first)
