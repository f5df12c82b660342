"""Which experts are in host memory, where that is a cache: state without a clock."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moesim.memory.activations import ActiveExperts, Ints
from moesim.memory.host_cache import HostCache
from moesim.memory.residency import Given, LayerCache
from moesim.memory.room import Room


class HostResidency:
    """The cache of one node's host, asked step by step: (pass, MoE layer, GPU) in order.

    ``usage`` int64[experts of all layers]: how often each is chosen in the part of the trace from
    which policies learn. ``steps``: how many a pass has. ``sizes`` int64[experts of all layers]:
    their bytes, by which a cache with a ``limit`` goes.
    """

    def __init__(
        self,
        cache: HostCache,
        usage: Ints,
        steps: int,
        stream: np.random.Generator,
        initial: Literal["empty", "most_used"],
        sizes: Ints | None = None,
    ) -> None:
        self._stream = stream if cache.policy.draws else None
        room = None if cache.limit is None else Room(cache.limit, sizes)
        most_used = np.argsort(-usage, kind="stable")
        most_used = most_used[: cache.slots] if room is None else room.first_of(most_used)
        given = Given(resident=most_used if initial == "most_used" else None, room=room)
        self._cache = self._slots(cache, usage, steps, given) if cache.slots else None

    @staticmethod
    def _slots(cache: HostCache, usage: Ints, steps: int, given: Given) -> LayerCache:
        return LayerCache(
            cache.policy,
            cache.slots,
            usage,
            serial=True,
            resident_first=False,
            layers=steps,
            given=given,
        )

    def hits(self, needs: ActiveExperts) -> NDArray[np.bool_]:
        """Of each of the ``needs`` of the coming steps, whether it is in host memory; the others
        are read into it.
        """
        if self._cache is None:
            return np.zeros(len(needs.experts), np.bool_)
        if self._stream is not None:
            more = self._stream.random(len(needs.experts))
            self._cache.draws = np.concatenate((self._cache.draws, more))
        hits: NDArray[np.bool_] = self._cache.decide(needs).hit
        return hits
