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


@dataclass(frozen=True)
class Reading:
    """The reads of a layer on a GPU, which have ``begun`` when that event says."""

    env: simpy.Environment
    layer: MoeLayer
    begun: simpy.Event

    def may_copy(self, read: int) -> simpy.Event:
        """Happens when the copy of what ``read`` brings may begin."""
        return self.env.process(self._until(read))

    def _until(self, read: int) -> Generator[simpy.Event, Any, None]:
        begin = yield self.begun
        at = self.layer.read_end(begin, read) - self.layer.read_lead
        yield self.env.timeout(max(at - int(self.env.now), 0))
