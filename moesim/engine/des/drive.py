"""The drive of a node, from which experts are read into host memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import simpy

from moesim.engine.des.copies import CopyGroup
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

    def left(self, time: int, behind: CopyGroup | None = None) -> None:
        """The experts of a layer have ended; nothing here."""


class LayersAhead(Drive):
    """It reads whole layers of a lone GPU in order, each as soon as one of the ``rooms`` of host
    memory is free of an earlier one.
    """

    def __init__(self, env: simpy.Environment, rooms: int) -> None:
        super().__init__(env, 1)
        self._vacant: list[int | None] = [0] * rooms
        self._entered, self._housed = 0, False
        self._waiting: deque[tuple[int, int, simpy.Event]] = deque()

    def ask(self, place: int, known: int, busy_ns: int) -> simpy.Event:
        """The next layer, if it takes any time; ``known`` does not matter to it."""
        del place, known
        self._housed = busy_ns > 0
        begun = self.env.event()
        self._waiting.append((self._entered % len(self._vacant), busy_ns, begun))
        self._turn_to()
        return begun

    def left(self, time: int, behind: CopyGroup | None = None) -> None:
        """The layer that was asked for last needs its room no more, but for copies in the
        background, of which ``behind`` is the last.
        """
        if not self._housed:
            return
        room = self._entered % len(self._vacant)
        self._entered, self._housed, self._vacant[room] = self._entered + 1, False, None
        if behind is None or behind.processed:
            self._leave(room, time, behind)
        else:
            assert behind.callbacks is not None, "it is to come"
            behind.callbacks.append(lambda _: self._leave(room, time, behind))

    def _leave(self, room: int, time: int, behind: CopyGroup | None) -> None:
        self._vacant[room] = time if behind is None else max(time, behind.spans[-1][1])
        self._turn_to()

    def _turn_to(self) -> None:
        """Begin the reads of layers whose rooms are known to be free then."""
        while self._waiting:
            room, busy_ns, begun = self._waiting[0]
            if (vacant := self._vacant[room] if busy_ns else 0) is None:
                return
            self._waiting.popleft()
            begin = max(self.end, vacant)
            self.end = begin + busy_ns
            begun.succeed(begin)


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
        end = layer.read_end(self.index, begin, layer.stored.copy[copy])
        at = end - layer.stored.lead[copy]
        yield self.env.timeout(max(at - int(self.env.now), 0))
