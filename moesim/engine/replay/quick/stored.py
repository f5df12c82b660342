"""Passes of a row each on one GPU under LRU whose misses are loaded from host memory that is a
cache above storage: what layers miss is asked of the host, all of a run of passes at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.layer_work import LayerWork
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Launched, play_stored
from moesim.engine.replay.quick.activations import COUNTED_HERE
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.one_row import (
    MORE_THAN_ANY,
    OneRow,
    numbered_as_they_are,
    room_for,
)
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.quick.sweeps import HOST_HITS, READ, READS, WANT, Swept
from moesim.engine.residency.storage import Storage
from moesim.memory.activations import ActiveExperts
from moesim.memory.host.host_residency import HostResidency
from moesim.memory.misses.load import Load
from moesim.memory.policies.lru import Lru
from moesim.memory.slots.lru_list import lru_list_of
from moesim.runtime.compiled import njit, types

MOST = 16
"""Experts of a layer at most, so that a word has a bit for each."""
_FLAT, _TABLE = types.int64[::1], types.uint16[:, ::1]


@njit(
    types.void(_FLAT, types.boolean[::1], _TABLE, types.int64[:, :, :, ::1], _FLAT),
    cache=True,
    _nrt=False,
)
def _note_reads(steps: Any, hits: Any, reads: Any, counts: Any, read: Any) -> None:
    """Fill in which of the misses of each pass and layer are ``reads``, a bit each, uint16[passes,
    MoE layers], count them, and add to what layers ``read`` int64[MoE layers].
    """
    passes, layers = reads.shape
    for p in range(passes):
        for layer in range(layers):
            first, last = steps[p * layers + layer], steps[p * layers + layer + 1]
            mask, number, row = 0, 0, layer if counts.shape[2] > 1 else 0
            for i in range(first, last):
                if not hits[i]:
                    mask |= 1 << (i - first)
                    number += 1
            reads[p, layer] = mask
            counts[HOST_HITS, p, row, 0] += last - first - number
            counts[READS, p, row, 0] += number
            read[layer] += number


def is_stored(case: Case) -> bool:
    """Whether ``StoredRows`` takes ``case``, which has one row: all experts have their own numbers,
    and reads are alike.
    """
    host = case.host_cache
    return (
        host is not None
        and case.offloaded
        and not (host.rooms or host.in_place)
        and type(case.miss) is Load
        and case.trace.top_k <= MOST
        and not any(layer.on_host or layer.zero_copy for layer in case.model.moe_layers)
        and numbered_as_they_are(case)
    )


def _has_list(case: Case) -> bool:
    """Whether the host of ``case`` is a list of the experts used last."""
    host, experts = case.host_cache, case.placement.logical.size
    return (
        host is not None
        and type(host.policy) is Lru
        and host.limit is None
        and host.slots >= case.trace.top_k
        and host.slots + experts < MORE_THAN_ANY
    )


class StoredRows(OneRow):
    """Makes the runs of a case that ``is_stored``."""

    clock: ClassVar[Any] = staticmethod(play_stored)

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        super().__init__(reuse, launches, provenance)
        assert reuse.case.host_cache is not None, "the case is stored"
        self.counted = (*COUNTED_HERE, "host_hits", "storage_reads")
        self._storage = Storage(reuse.case, reuse.routing, reuse.case.host_cache)
        (self._host,) = self._storage.hosts
        self._listed = _has_list(reuse.case)
        if self._listed:
            assert isinstance(self._host, HostResidency), "it keeps experts"
            assert self._host.cache is not None, "it has slots"
            slots, resident = self._host.cache.slots, self._host.cache.resident
            listed = lru_list_of(np.empty(len(resident), np.uint16), slots, resident)
            self._held = self._held._replace(host=listed)

    @classmethod
    def becomes_of(cls, case: Case) -> int:
        """See ``OneRow``."""
        return READ if _has_list(case) else WANT

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says: what is missed is held by expert, where no list is asked at once."""
        return super().runs_of(first, last) if self._listed else self.reuse.runs_of(first, last)

    def _room(self, passes: int, counts: Ints) -> Swept:
        """See ``OneRow``."""
        swept = super()._room(passes, counts)
        read, reads = np.empty_like(swept.misses), self._storage.reads.reshape(-1)
        if self._listed:
            return swept._replace(read=read, reads=reads)
        offsets = np.zeros(swept.misses.size + 1, np.int64)
        experts = np.empty(len(offsets) * room_for(self.top_k), np.int64)
        return swept._replace(offsets=offsets, experts=experts, read=read, reads=reads)

    def _launched(self, swept: Swept) -> Launched:
        """See ``OneRow``."""
        if not self._listed:
            offsets = swept.offsets
            hits = self._host.hits(ActiveExperts(offsets, swept.experts[: offsets[-1]]))
            _note_reads(offsets, hits, swept.read, swept.counts, swept.reads)
        one = super()._launched(swept)
        return Launched(self.clock, one.works._replace(read=swept.read), one.copies)

    def settle(self, work: LayerWork) -> None:
        """As ``Maker`` says."""
        super().settle(work)
        self._storage.settle(self.provenance)
