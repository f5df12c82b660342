"""Runs of several GPUs whose passes have a row each, under LRU: what each GPU needs and misses of
the row's experts, as of one GPU in ``one_row``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from moesim.engine.case import Case
from moesim.engine.layer_work import LayerWork
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Launched
from moesim.engine.replay.clock.several_gpus import Spread as SpreadWorks
from moesim.engine.replay.clock.several_gpus import play_spread
from moesim.engine.replay.quick.activations import ACCESS_HITS, HITS
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.made import Made
from moesim.engine.replay.quick.one_launch import ALL, chosen_by, launches_once
from moesim.engine.replay.quick.one_row import OneRow, room_for, room_of
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.quick.stack_distances import follow_stack
from moesim.engine.replay.quick.sweeps import SPAN, Spread, Stacks, spread_of
from moesim.engine.residency.residencies import Residencies
from moesim.memory.curves.recency import LANES
from moesim.memory.policies.lru import Lru

MOST = (np.iinfo(np.uint16).max + 1) // SPAN
"""GPUs at most."""


class SpreadRows(OneRow):
    """Makes the runs of a case that it ``takes``."""

    clock: ClassVar[Any] = staticmethod(play_spread)

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        super().__init__(reuse, launches, provenance)
        known = launches.single_row_ns[launches.kinds]
        self.times = np.zeros((len(known), max(1 + self.top_k, known.shape[1])), np.int64)
        self._kernel_ns = np.zeros_like(self.times)
        self._kernel_ns[:, : known.shape[1]] = known

    def _as_they_are(self) -> Any:
        """See ``OneRow``."""
        case, finder = self.reuse.case, self.reuse.finder
        homes, layers = len(finder.gpu_of_home), finder.layers
        lines = np.full((layers, -(-homes // LANES), LANES), np.iinfo(np.uint16).max, np.uint16)
        never = finder.gpu_of_home * SPAN + finder.width
        lines.reshape(layers, -1)[:, :homes] = never
        resident = np.array([case.resident(gpu) for gpu in range(case.gpus)])
        slots = np.where(resident, SPAN, case.slots).T.astype(np.uint16)
        homes, (chooses, stays) = self._homes(), room_of(case)
        found = Stacks(homes, lines, np.ascontiguousarray(slots), chooses, stays, stays[0])
        if case.initial != "empty" and case.offloaded:
            for (layer, gpu), cache in Residencies(case, self.reuse.routing).caches.items():
                experts = np.flatnonzero(cache.resident)
                at = gpu * finder.width + experts
                lines[layer].reshape(-1)[at] = gpu * SPAN + np.arange(len(experts))[::-1]
        return found

    def _homes(self) -> Any:
        """Where each sender's choices go, uint16[senders or 1, MoE layers, experts]."""
        finder = self.reuse.finder
        if (replicas := finder.replicas) is None:
            return finder.home.astype(np.uint16)[None]
        begin, number = replicas.begin[:, :-1], np.diff(replicas.begin, axis=1)
        senders = np.arange(self.reuse.case.senders)[:, None, None]
        places = begin + senders % number
        layers = np.arange(finder.layers)[:, None]
        return replicas.homes[layers, places].astype(np.uint16)

    @classmethod
    def takes(cls, case: Case) -> bool:
        """Whether ``case``, which loads what it misses, is one."""
        held = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
        follows = type(case.policy) is Lru and follow_stack(case, filled=True)
        return (
            1 < case.gpus <= MOST
            and held < SPAN
            and case.sharing == 1
            and case.serving is None
            and (follows or not case.offloaded)
            and launches_once(case)
            and chosen_by(case) == ALL
        )

    @classmethod
    def launches_of(cls, case: Case) -> LaunchPrices:
        """See ``Loading``: a GPU has several rows' experts."""
        return LaunchPrices(case)

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        case, finder, passes = self.reuse.case, self.reuse.finder, last - first
        ids, rows, senders, _ = finder.tokens(first, last)
        active, misses = np.zeros((2, passes, finder.layers, case.gpus), np.uint16)
        counts = np.zeros((len(self.counted), passes, finder.kept, case.gpus), np.int64)
        busiest, copies = np.empty((finder.layers, passes), np.int64), np.zeros_like(self.copies)
        out = Spread(active, misses, counts, busiest, copies, self.times)
        spread_of(room_for(self.top_k))(ids, rows, senders, self._held, out)
        counts[ACCESS_HITS] = counts[HITS]
        self.copies += copies
        works = Launched(
            self.clock, SpreadWorks(active, misses, self._kernel_ns), int(copies.sum())
        )
        return Made(active.astype(np.int64), counts, works, 1, busiest)

    def settle(self, work: LayerWork) -> None:
        """As ``Maker`` says."""
        launches, most = self.launches, len(self.launches.uses[0])
        for kind, times in zip(launches.kinds.tolist(), self.times, strict=True):
            launches.uses[kind] += times[:most]
        super().settle(work)
