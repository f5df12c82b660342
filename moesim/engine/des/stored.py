"""What a GPU that prefetches has from storage: its host's memory, and the drive below it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from moesim.engine.case import Case
from moesim.engine.des.copies import LAST, After, CopyGroup
from moesim.engine.residency.storage import ReadTimes, host_numbers
from moesim.engine.routing import Routing
from moesim.memory.host.host_residency import HostResidency

Expert = tuple[int, int]
"""A MoE layer, and an expert numbered within the GPU."""


@dataclass(eq=False)
class Read:
    """A read of an ``expert`` ahead, for the copy ``group``; ``begun``, or brought forward."""

    expert: Expert
    group: CopyGroup
    begun: bool = False


class ReadsAhead:
    """A drive that reads what a layer needs first, and ahead, first in, first out, when it does
    nothing else; it interrupts no read.
    """

    def __init__(self, env: simpy.Environment, begin: Callable[[Read], None]) -> None:
        self.env, self.end, self._begin_read = env, 0, begin
        self._queue: deque[Read] = deque()
        self._looks = False

    def take(self, busy_ns: int) -> int:
        """A read that is not ahead, now: when the drive turns to the next one."""
        self.end = max(self.end, int(self.env.now)) + busy_ns
        return self.end

    def ahead(self, read: Read) -> None:
        """Queue ``read``."""
        self._queue.append(read)
        self._look()

    def withdraw(self, read: Read) -> None:
        """Take back one that has not begun."""
        self._queue.remove(read)

    def _look(self) -> None:
        if self._queue and not self._looks:
            self._looks, wait = True, max(self.end - int(self.env.now), 0)
            After(self.env, wait, LAST).callbacks.append(self._begin)

    def _begin(self, event: simpy.Event) -> None:
        del event
        self._looks = False
        if self._queue and self.end <= self.env.now:
            self._begin_read(self._queue.popleft())
        self._look()


@dataclass(eq=False)
class Stored:
    """The ``host`` of one GPU, whose copies start when what they bring is read; ``arrived`` is told
    of a prefetch whose read has begun.
    """

    env: simpy.Environment
    case: Case
    gpu: int
    routing: Routing
    host: HostResidency
    times: ReadTimes
    arrived: Callable[[], None]
    drive: ReadsAhead = field(init=False)
    there: dict[Expert, int] = field(default_factory=dict)
    reads: dict[Expert, Read] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with a free drive."""
        self.drive = ReadsAhead(self.env, self._begin)
        self.numbers = host_numbers(self.case, self.routing, self.gpu)

    def want(
        self, step: int, layer: int, missed: list[int], promoted: list[int]
    ) -> tuple[int, int]:
        """The ``missed`` experts of a layer are wanted now, those not in memory are read, and
        those whose prefetch was ``promoted`` before its read began; returns how many were there,
        and how many of the missed ones are read.
        """
        missed = sorted(missed)
        found = self._ask(step, layer, [(layer, expert) for expert in missed])
        there = {expert for expert, hit in zip(missed, found, strict=True) if hit}
        for expert in sorted({*missed, *promoted} - there):
            if expert in promoted:
                read = self.reads[layer, expert]
                self.drive.withdraw(read)
                read.begun = True
            self._take((layer, expert))
        return len(there), len(missed) - len(there)

    def ahead(self, step: int, layer: int, groups: dict[Expert, CopyGroup], *, waits: bool) -> int:
        """Prefetches were issued at ``layer`` of ``step``, in order: read what is not in memory,
        behind all else, or at once where the pass ``waits`` for it; returns until when it does.
        """
        for (expert, group), hit in zip(
            groups.items(), self._ask(step, layer, list(groups)), strict=True
        ):
            self.reads.pop(expert, None)
            if not hit:
                self.reads[expert] = Read(expert, group, begun=waits)
                if waits:
                    self._take(expert)
                else:
                    group.unread = True
                    self.drive.ahead(self.reads[expert])
            if hit or waits:
                group.there = self.may_copy(expert)
        return max((self.there.get(expert, 0) for expert in groups if waits), default=0)

    def cancel(self, expert: Expert) -> None:
        """The prefetch of ``expert`` is not made; nor is its read, if it has not begun."""
        read = self.reads.get(expert)
        if read is not None and not read.begun:
            self.drive.withdraw(read)
            self.host.forget(self.numbers[expert])
            del self.reads[expert]

    def queued(self, expert: Expert) -> bool:
        """Whether a read ahead of ``expert`` waits."""
        return expert in self.reads and not self.reads[expert].begun

    def until(self, expert: Expert) -> int:
        """When ``expert`` is in host memory, 0 where it has been there."""
        there = self.there.get(expert, 0)
        return there if there > self.env.now else 0

    def may_copy(self, expert: Expert) -> int:
        """From when on it may be copied."""
        there = self.until(expert)
        return there - int(self.times.lead[expert[0]]) if there else 0

    def _ask(self, step: int, layer: int, experts: list[Expert]) -> Any:
        asked = np.array([self.numbers[expert] for expert in experts], np.int64)
        return self.host.ask(step * len(self.numbers) + layer, asked)

    def _take(self, expert: Expert) -> None:
        busy, after = int(self.times.busy[expert[0]]), int(self.times.after[expert[0]])
        self.there[expert] = self.drive.take(busy) + after

    def _begin(self, read: Read) -> None:
        read.begun = True
        self._take(read.expert)
        read.group.unread, read.group.there = False, self.may_copy(read.expert)
        self.arrived()
