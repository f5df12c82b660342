"""The drive of a node, from which experts are read into host memory."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import simpy

from moesim.engine.des.layer import MoeLayer


class Drive:
    """It turns to its GPUs in order, layer by layer, each with all its reads of the layer: behind
    those before, and not before that GPU knew its counts.
    """

    def __init__(self, env: simpy.Environment, gpus: int) -> None:
        self.env, self.gpus = env, gpus
        self.end = self._turn = 0
        self._asked: dict[int, tuple[int, int, simpy.Event]] = {}

    def ask(self, place: int, known: int, busy_ns: int) -> simpy.Event:
        """Reads of the GPU in ``place``, known then, that take ``busy_ns``; the event tells when
        they begin.
        """
        begun = self.env.event()
        self._asked[place] = (known, busy_ns, begun)
        while self._turn in self._asked:
            known, busy_ns, event = self._asked.pop(self._turn)
            begin = max(self.end, known)
            self.end = begin + busy_ns
            event.succeed(begin)
            self._turn = (self._turn + 1) % self.gpus
        return begun

    def left(self, time: int) -> None:
        """The experts of a layer have ended; nothing here."""


class LayersAhead(Drive):
    """It reads whole layers of a lone GPU in order, each as soon as one of the ``rooms`` of host
    memory is free of an earlier one.
    """

    def __init__(self, env: simpy.Environment, rooms: int) -> None:
        super().__init__(env, 1)
        self._vacant, self._entered, self._housed = [0] * rooms, 0, False

    def ask(self, place: int, known: int, busy_ns: int) -> simpy.Event:
        """The next layer, if it takes any time; ``known`` does not matter to it."""
        del known
        self._housed = busy_ns > 0
        room = self._entered % len(self._vacant)
        return super().ask(place, self._vacant[room] if self._housed else 0, busy_ns)

    def left(self, time: int) -> None:
        """The layer that was asked for last needs its room no more."""
        if self._housed:
            self._vacant[self._entered % len(self._vacant)] = time
            self._entered, self._housed = self._entered + 1, False


@dataclass(frozen=True)
class Reading:
    """The reads of a layer's pass ``index`` on a GPU, which have ``begun`` when that event says."""

    env: simpy.Environment
    layer: MoeLayer
    index: int
    begun: simpy.Event

    def may_copy(self, copy: int) -> simpy.Event:
        """Happens when ``copy`` of the chunk may begin, of what its reads bring."""
        return self.env.process(self._until(copy))

    def _until(self, copy: int) -> Generator[simpy.Event, Any, None]:
        begin, layer = (yield self.begun), self.layer
        at = layer.read_end(self.index, begin, layer.copy_read[copy]) - layer.lead_of(copy)
        yield self.env.timeout(max(at - int(self.env.now), 0))
