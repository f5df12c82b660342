"""Passes of a row each on one GPU under LRU whose experts are prefetched one layer ahead by
predictions that may be wrong. What is predicted does not depend on the clock; who has a slot does,
and is decided by it, layer by layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Launched
from moesim.engine.replay.clock.predicted import AHEAD, MOST, TOLD, Told, play_word, play_words
from moesim.engine.replay.prefetch.tables import predicted_of
from moesim.engine.replay.quick.activations import COUNTED_HERE, HITS
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.made import Made
from moesim.engine.replay.quick.one_row import OneRow, stacks_of
from moesim.engine.replay.quick.program import decides_alone, has_one_row, loads_from_host
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.spans import IDS
from moesim.engine.views import Views
from moesim.memory.activations import ActiveExperts
from moesim.memory.curves.recency import LANES, put_in_order
from moesim.memory.prefetch.base import Key
from moesim.runtime.by_address import placed
from moesim.runtime.compiled import code_of, specialised, types

NONE, NOBODY = np.zeros(0, np.int64), np.zeros(0, np.int16)
NO_OFFSETS, NO_COUNTS = np.zeros((0, 0), np.int32), np.zeros((0, 0), np.int64)
ACTIVATIONS = 1 << 19
"""Activations of which is predicted at a time."""


def ascend_with(top_k: int) -> Callable[..., None]:
    """What puts what rows choose in order, each ``top_k``, which is known when that is compiled."""

    def ascend(ids: Any, rows: Any, home: Any, own: Any, ascending: Any) -> None:
        """Fill in where the experts are that ``rows`` of ``ids`` choose, ``ascending`` int64[MoE
        layers, rows, k]; ``own`` uint16[k] is room for a row's.
        """
        for step in range(len(rows)):
            for layer in range(len(ascending)):
                for i in range(top_k):
                    own[i] = home[layer, ids[rows[step], layer, i]]
                put_in_order(own, top_k)
                for i in range(top_k):
                    ascending[layer, step, i] = own[i]

    return ascend


_ASCEND = types.void(
    IDS, types.int64[::1], types.uint16[:, ::1], types.uint16[::1], types.int64[:, :, ::1]
)


@lru_cache
def ascend_of(top_k: int) -> Any:
    """``ascend`` of ``top_k`` experts, compiled; kept on disk."""
    return specialised(ascend_with, _ASCEND, constants=(top_k,), allocates=False)


def is_predicted(case: Case) -> bool:
    """Whether ``PredictedRows`` takes ``case``, or what knows that predictions are right."""
    prefetcher = case.prefetch
    return (
        case.prefetches
        and (prefetcher.layers, prefetcher.when, prefetcher.budget) == (1, "layer", None)
        and case.software.overlap
        and not case.software.blocking
        and case.variants is None
        and case.offloaded
        and case.policy.scope == "layer"
        and len(case.model.moe_layers) > 1
        and case.placement.logical.shape[1] <= MOST
        and loads_from_host(case)
        and decides_alone(case)
        and has_one_row(case)
    )


def numbered(before: Ints, width: int) -> NDArray[np.int32]:
    """When experts were used, as ``Told`` says it, [..., experts], of how many were used ``before``
    them.
    """
    return (before << width | np.arange(before.shape[-1])).astype(np.int32)


def clock_of(case: Case) -> Any:
    """The clock of a case that ``is_predicted``."""
    return play_word if case.placement.logical.shape[1] <= LANES else play_words


class PredictedRows(OneRow):
    """Makes the runs of a case that ``is_predicted``, by any predictions."""

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        super().__init__(reuse, launches, provenance)
        (form,) = reuse.case.forms
        self.counted = (*COUNTED_HERE, form.counted, *AHEAD)
        self._views = Views(reuse.case, reuse.routing, lambda _first, _last: None)

    def _as_they_are(self) -> Told:
        """Who is in slots at the start, none of whom has been used: of those the lowest goes first;
        nothing is queued.
        """
        stacks, experts = stacks_of(self.reuse), self.reuse.finder.width
        layers, number, _ = stacks.lines.shape
        there = np.zeros((layers, number), np.int64)
        slots = stacks.slots[:, 0].astype(np.int64)
        here = (stacks.lines < experts) | (slots >= experts)[:, None, None]
        for lane in range(LANES):
            there |= here[:, :, lane].astype(np.int64) << lane
        width = (number * LANES - 1).bit_length()
        used = np.tile(numbered(np.arange(number * LANES), width), (layers, 1))
        words = np.zeros((4, number), np.int64)
        values: list[Any] = [
            self.reuse.case.trace.expert_ids, NONE, stacks.home, *[NONE] * 3, NO_OFFSETS, NOBODY,
            used, width, slots, there, np.zeros_like(there), *np.zeros((2, experts), np.int64),
            np.array([0, 0, -1, 0]), *words, NO_COUNTS, self.copies,
        ]  # fmt: skip
        return Told(*values)

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says: what is predicted is held."""
        return self.reuse.finder.runs(first, last, ACTIVATIONS)

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        finder = self.reuse.finder
        shape = (len(self.counted), last - first, finder.kept, 1)
        counts = np.zeros(shape, np.int64)
        counts[: len(COUNTED_HERE)] = self.top_k * (finder.layers // finder.kept)
        told = self._told(first, last, counts[HITS:].reshape(len(counts) - HITS, -1))
        works = Launched(code_of(clock_of(self.reuse.case)), placed(told, TOLD), 0)
        return Made(self._executed(counts), counts, works, 1, told=lambda: None)

    def _told(self, first: int, last: int, counts: Ints) -> Told:
        """What the clock takes of passes first:last."""
        case, (_, rows, _, _) = self.reuse.case, self.reuse.finder.tokens(first, last)
        used = self._held.used
        used[:] = numbered(used.argsort(axis=1).argsort(axis=1), self._held.width)
        predictions = self._views.predictions(first, last, self._needed, apart=True)
        found = predicted_of(case, predictions)
        layers = np.arange(len(self.copies))
        sources = np.roll(layers, 1) if case.prefetch.by_source else np.zeros_like(layers)
        place = found.index[sources, layers, 0]
        place[0] *= case.prefetch.across_passes
        told: Told = self._held._replace(
            rows=rows, kernel_ns=self.launches.of_rows(len(rows), self.top_k), place=place,
            base=found.base, offsets=found.offsets, experts=found.experts, counts=counts,
        )  # fmt: skip
        return told

    def _needed(self, first: int, last: int) -> dict[Key, ActiveExperts]:
        """The active experts of passes first:last."""
        ids, rows, _, _ = self.reuse.finder.tokens(first, last)
        ascending = np.empty((len(self.copies), len(rows), self.top_k), np.int64)
        own = np.empty(self.top_k, np.uint16)
        ascend_of(self.top_k)(ids, rows, self._held.home, own, ascending)
        offsets = self.top_k * np.arange(len(rows) + 1)
        return {
            (layer, 0): ActiveExperts(offsets, own.ravel()) for layer, own in enumerate(ascending)
        }
