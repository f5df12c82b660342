"""What is decided on the clock, because prefetches make residency depend on it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.config.registry import answering, wrong_answer
from moesim.engine.case import Ints
from moesim.engine.layout import Active
from moesim.memory.activations import ActiveExperts, steps_of
from moesim.memory.prefetch.base import Key, Prefetcher, View, fault_of_predicted


class Asked(NamedTuple):
    """Active ``experts`` of a MoE layer or a pool on one GPU, and aligned with them, None where not
    read, next uses, gate weights, prices int64[OFFERED, active experts], the variants wanted, and
    marks.
    """

    experts: Ints
    next_use: Ints | None = None
    weights: Ints | None = None
    prices: Ints | None = None
    wanted: Ints | None = None
    marks: Ints | None = None

    def at(self, here: slice) -> Asked:
        """Of some passes alone, whose experts are ``here``."""
        if here.stop - here.start == len(self.experts):
            return self
        told = [None if one is None else np.ascontiguousarray(one[..., here]) for one in self[1:]]
        return Asked(self.experts[here], *told)


@dataclass(frozen=True, eq=False)
class Fetched:
    """In which variant an expert is copied that is predicted: ``always`` the same, or that which is
    ``loaded`` int64[variants + 1] where the pass wants one, ``wanted`` int8[passes, MoE layers,
    logical experts] (see ``VariantResidencies.wanted``).
    """

    loaded: Ints
    always: int | None
    wanted: NDArray[np.int8] | None

    def of(self, view: View, active: ActiveExperts, layer: int, gpu: int) -> ActiveExperts:
        """Experts ``active`` in the passes of a view, numbered variant by variant, without those
        that are not copied in any. What no token of the pass will choose is in the worst.
        """
        local, variants = view.local[gpu], len(self.loaded) - 1
        variant = np.full(len(active.experts), self.always or 0)
        if self.wanted is not None:
            step = steps_of(active.offsets)
            cells = (step, layer, view.logical[layer, local[active.experts]])
            chosen, wanted = view.choices[cells] > 0, self.wanted[cells]
            variant = np.where(chosen, self.loaded[wanted], variants - 1)
        copied = variant < variants
        before = np.concatenate(([0], np.cumsum(copied)))
        numbered = variant * len(local) + active.experts
        return ActiveExperts(before[active.offsets], numbered[copied])


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a prefetcher says of the passes of a view, worked out once an origin and layer.

    Where experts have variants they are numbered variant by variant, as they are ``fetched``.
    """

    prefetcher: Prefetcher
    view: View
    fetched: Fetched | None = None
    _known: dict[tuple[int, int, int], tuple[list[int], Ints]] = field(default_factory=dict)
    _running: dict[int, list[int]] = field(default_factory=dict)
    _issued: dict[tuple[int, int], list[tuple[int, int, int]]] = field(default_factory=dict)

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
        with answering("experts.prefetch", self.prefetcher):
            found = self.prefetcher.predict(view, origin, layer, gpu)
        if fault := fault_of_predicted(found, view.passes, len(view.local[gpu])):
            raise wrong_answer("experts.prefetch", self.prefetcher, fault)
        return found if self.fetched is None else self.fetched.of(view, found, layer, gpu)

    def of(self, origin: int, index: int, layer: int, gpu: int) -> Ints:
        """The experts of MoE ``layer`` on ``gpu`` in pass ``index`` of the view."""
        key = (origin, layer, gpu)
        if (known := self._known.get(key)) is None:
            found = self.predict(*key)
            experts = np.ascontiguousarray(found.experts, np.int64)
            known = self._known[key] = (found.offsets.tolist(), experts)
        offsets, experts = known
        return experts[offsets[index] : offsets[index + 1]]

    def coming(self, index: int) -> list[tuple[int, int]]:
        """The pass in the view, and MoE layer, of all that is predicted before pass ``index``."""
        passes = range(index, min(index + self.prefetcher.every, len(self.view.active)))
        return [(one, layer) for one in passes for layer in self._runs(one)]

    def _runs(self, index: int) -> list[int]:
        """The MoE layers that pass ``index`` of the view runs."""
        if index not in self._running:
            self._running[index] = np.flatnonzero(self.view.active[index]).tolist()
        return self._running[index]

    def issued_at(self, index: int, source: int) -> list[tuple[int, int, int]]:
        """What pass ``index`` of the view prefetches for at ``source``, nearest first: the origin,
        how many passes later it is, and the MoE layer. Found once for passes that run alike.
        """
        alike = self._alike[index], source
        if alike not in self._issued:
            self._issued[alike] = [
                (self.origin(source, far), later - index, layer)
                for far, (later, layer) in enumerate(self._layers_ahead(index, source), 1)
            ]
        return self._issued[alike]

    @cached_property
    def _alike(self) -> list[int]:
        """By pass of the view what tells those apart that run other layers, or whose next one
        does.
        """
        rows = [row.tobytes() for row in self.view.active]
        numbers: dict[tuple[bytes, bytes], int] = {}
        pairs = zip(rows, [*rows[1:], b""], strict=True)
        return [numbers.setdefault(pair, len(numbers)) for pair in pairs]

    def _layers_ahead(self, index: int, source: int) -> list[tuple[int, int]]:
        active = self.view.active
        runs, most = self._runs(index), self.prefetcher.layers
        first = bisect_right(runs, source)
        ahead = [(index, layer) for layer in runs[first : first + most]]
        if len(ahead) == most:
            return ahead
        if self.prefetcher.across_passes and index + 1 < len(active):
            last = source if active[index + 1, source] else active.shape[1]
            ahead += [(index + 1, layer) for layer in self._runs(index + 1) if layer <= last]
        return ahead[:most]


@dataclass(frozen=True, eq=False)
class Undecided:
    """The passes of a chunk before their activations are known; ``active`` experts by MoE layer and
    GPU; before which passes the policy ``restarts``, bool[passes]. ``served`` int8[passes, MoE
    layers, gpus, local experts] is filled in: the form of each active expert, -1 of others, where
    they have variants; without passes elsewhere.
    """

    asked: dict[Key, Asked]
    active: dict[Key, Active]
    predictions: Predictions
    restarts: NDArray[np.bool_]
    served: NDArray[np.int8]
    _offsets: dict[Key, list[int]] = field(default_factory=dict)

    def here(self, key: Key, index: int) -> slice:
        """Where the active experts of pass ``index`` are."""
        if (offsets := self._offsets.get(key)) is None:
            offsets = self._offsets[key] = self.active[key].offsets.tolist()
        return slice(offsets[index], offsets[index + 1])
