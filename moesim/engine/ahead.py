"""What is decided on the clock, because prefetches make residency depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.layout import Active
from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Key, Prefetcher, View


@dataclass(frozen=True, eq=False)
class Asked:
    """Of a MoE layer on one GPU, its active experts, and aligned with them, where they are read,
    next uses, gate weights and prices int64[OFFERED, active experts].
    """

    active_experts: ActiveExperts
    next_use: Ints | None = None
    weights: Ints | None = None
    prices: Ints | None = None

    def at(self, index: int) -> tuple[Ints, Ints | None, Ints | None, Ints | None]:
        """The experts needed in pass ``index``, and what is aligned with them."""
        span = slice(self.active_experts.offsets[index], self.active_experts.offsets[index + 1])

        def part(values: Ints | None) -> Ints | None:
            return None if values is None else np.ascontiguousarray(values[..., span])

        return (
            self.active_experts.experts[span],
            part(self.next_use),
            part(self.weights),
            part(self.prices),
        )


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a prefetcher says of the passes of a view, worked out once an origin and layer."""

    prefetcher: Prefetcher
    view: View
    _known: dict[tuple[int, int, int], ActiveExperts] = field(default_factory=dict)

    @cached_property
    def distances(self) -> int:
        """See ``Prefetcher``."""
        distances: int = self.prefetcher.distances(self.view)
        return distances

    def origin(self, source: int, distance: int) -> int:
        """What predictions depend on beside their layer: the MoE layer ``source`` where they are
        made, or over how many they look ahead, from 0; 0 where on neither.
        """
        if self.prefetcher.by_source:
            return source
        return min(distance, self.distances) - 1

    @property
    def origins(self) -> int:
        """How many different ones there are."""
        if self.prefetcher.by_source:
            return len(self.view.active[0])
        return self.distances

    def predict(self, origin: int, layer: int, gpu: int) -> ActiveExperts:
        """The experts of MoE ``layer`` on ``gpu``, for each pass of the view."""
        view = self.view
        if self.distances > 1:
            view = replace(view, distance=origin + 1)
        return self.prefetcher.predict(view, origin, layer, gpu)

    def of(self, origin: int, target: tuple[int, int], gpu: int) -> list[int]:
        """The experts of ``target`` (its pass in the view, and MoE layer) on ``gpu``."""
        index, layer = target
        key = (origin, layer, gpu)
        if key not in self._known:
            self._known[key] = self.predict(*key)
        active_experts = self._known[key]
        found: list[int] = active_experts.experts[
            active_experts.offsets[index] : active_experts.offsets[index + 1]
        ].tolist()
        return found

    def coming(self, index: int) -> list[tuple[int, int]]:
        """The pass in the view, and MoE layer, of all that is predicted before pass ``index``."""
        active = self.view.active
        passes = range(index, min(index + self.prefetcher.every, len(active)))
        return [(one, layer) for one in passes for layer in _running(active[one])]

    def layers_ahead(self, index: int, source: int) -> list[tuple[int, int]]:
        """The pass in the view, and MoE layer, of those that pass ``index`` prefetches for at
        ``source``: nearest first.
        """
        active = self.view.active
        ahead = [(index, layer) for layer in _running(active[index]) if layer > source]
        if self.prefetcher.across_passes and index + 1 < len(active):
            last = source if active[index + 1, source] else active.shape[1]
            ahead += [(index + 1, layer) for layer in _running(active[index + 1]) if layer <= last]
        return ahead[: self.prefetcher.layers]


def _running(active: NDArray[np.bool_]) -> Iterator[int]:
    return iter(np.flatnonzero(active).tolist())


@dataclass(frozen=True, eq=False)
class Undecided:
    """The passes of a chunk before their activations are known; ``active`` experts by MoE layer and
    GPU.
    """

    asked: dict[Key, Asked]
    active: dict[Key, Active]
    predictions: Predictions


def prefetches(case: Case) -> bool:
    """Whether the case's decisions depend on the clock."""
    return case.prefetches
