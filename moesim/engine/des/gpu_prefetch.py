"""One GPU whose layers are decided on the clock."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import simpy

from moesim.engine.case import Ints
from moesim.engine.chunk import Chunk
from moesim.engine.des.compute import Events
from moesim.engine.des.copies import DECISION, After, CopyGroup
from moesim.engine.des.copy_groups import Ends, Groups
from moesim.engine.des.drive import Reading
from moesim.engine.des.gpu import Gpu
from moesim.engine.des.layer import MoeLayer
from moesim.engine.des.prefetch import OnTheClock
from moesim.hardware.charge import PREDICTION

Chunks = Callable[[int], tuple[Chunk, Ints]]


class PrefetchingGpu(Gpu):
    """A GPU that prefetches: what it copies is settled when the counts of a layer are known."""

    def decide_by(self, decider: OnTheClock, chunks: Chunks) -> None:
        """Let ``decider`` decide; ``chunks`` gives a chunk by number, and where it is counted."""
        self.decider, self.chunks, self.copies_issued = decider, chunks, 0

    def _begin(self, not_before: int, begins: int) -> Events:
        yield from super()._begin(not_before, begins)
        self.decider.begin(self.chunks(self.chunk)[0], self.step)

    def _disturbed(self, layer: MoeLayer, index: int) -> bool:
        return True

    def _settle(
        self, layer: MoeLayer, index: int, known: int, reading: Reading | None = None
    ) -> Generator[simpy.Event, Any, tuple[Groups, Ends, CopyGroup | None]]:
        yield After(self.env, known - int(self.env.now), DECISION)
        chunk, counts = self.chunks(self.chunk)
        groups, ends, self.copies_issued = self.decider.decide(chunk, counts, layer, index)
        if self.keep_spans:
            self.hold(known, self.decider.residencies.held(self.number))
        return groups, ends, None

    def _reading(self, layer: MoeLayer, index: int, known: int) -> Reading | None:
        """The layer asks for what it reads when it is decided."""
        del layer, index, known
        return None

    def _stored(self, layer: MoeLayer, index: int, begun: int | None) -> tuple[list[int], int]:
        del layer, index, begun
        return self.decider.waits

    def _load_before(self, index: int) -> Events:
        prefetch, cost = self.case.prefetch, self.case.prediction_ns
        if not prefetch.before_pass or self.step % prefetch.every:
            return
        self.time += cost
        if cost:
            self.charge(self.categories.index(PREDICTION), self.time, "predict experts")
        yield from self.reach()
        known = self.time
        queued = self.decider.load(self.chunks(self.chunk)[0], index)
        if not queued:
            return
        self._wait_stored(self.decider.waits[1])
        there = yield from self._arrival(queued[-1])
        issued = max(self.host, known) + len(queued) * self.copy_in.host_ns
        blocked = max(self.host, there)
        self.launch("launch copies", blocked if self.copy_in.blocking else issued, known)

    def _issued(self, layer: MoeLayer, index: int) -> int:
        return self.copies_issued
