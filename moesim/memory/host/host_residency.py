"""Which experts are in host memory, where that is a cache: state without a clock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.memory.activations import ActiveExperts, Ints
from moesim.memory.host.host_cache import HostCache
from moesim.memory.slots.residency import Given, LayerCache
from moesim.memory.slots.room import Room


class HostResidency:
    """The cache of one node's host, asked step by step: (pass, MoE layer, GPU) in order.

    ``usage`` int64[experts of all layers]: how often each is chosen in the part of the trace from
    which policies learn. ``steps``: the MoE layers of a pass, and how many GPUs ask in each.
    ``first``: the experts in the order in which it is filled at the start, None: it begins empty.
    ``sizes`` int64[experts of all layers]: their bytes, by which a cache with a ``limit`` goes.
    """

    def __init__(
        self,
        cache: HostCache,
        usage: Ints,
        steps: tuple[int, int],
        stream: np.random.Generator,
        first: Ints | None,
        sizes: Ints | None = None,
    ) -> None:
        self._stream = stream if cache.policy.draws else None
        room = None if cache.limit is None else Room(cache.limit, sizes)
        if first is not None:
            first = first[: cache.slots] if room is None else room.first_of(first)
        given = Given(resident=first, room=room, turns=steps[1], prefetched=False)
        self.cache = None
        if cache.slots:
            self.cache = LayerCache(
                cache.policy, cache.slots, usage, serial=True, resident_first=False,
                layers=steps[0], given=given,
            )  # fmt: skip

    def mark(self) -> Any:
        """What ``back`` goes back to."""
        return None if self.cache is None else self.cache.mark()

    def back(self, mark: Any) -> None:
        """Nothing has been asked since then."""
        if self.cache is not None:
            self.cache.back(mark)

    def hits(self, needs: ActiveExperts) -> NDArray[np.bool_]:
        """Of each of the ``needs`` of the coming steps, whether it is in host memory; the others
        are read into it.
        """
        if self.cache is None:
            return np.zeros(len(needs.experts), np.bool_)
        self.draw(len(needs.experts))
        hits: NDArray[np.bool_] = self.cache.decide(needs).hit
        return hits

    def ask(self, step: int, experts: Ints) -> NDArray[np.bool_]:
        """As ``hits``, of the ``experts`` that ``step`` wants, which may ask more than once."""
        if self.cache is None or not len(experts):
            return np.zeros(len(experts), np.bool_)
        self.draw(len(experts))
        hits: NDArray[np.bool_] = self.cache.decide_step(step, experts).hit
        return hits

    def forget(self, expert: int) -> None:
        """The read of ``expert`` is not made."""
        if self.cache is not None:
            self.cache.resident[expert] = False

    def draw(self, more: int) -> None:
        """See that there are draws for so many ``more`` needs than were drawn for."""
        if self._stream is not None and self.cache is not None:
            drawn = (self.cache.draws, self._stream.random(more))
            self.cache.draws = np.concatenate(drawn)
