"""The copy-in engine of a GPU: first in, first out, one copy at a time, none interrupted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

import simpy

from moesim.engine.des.links import FairLinks
from moesim.engine.instants import NEVER

DECISION, LAST = 2, 3
"""Priorities of events: a layer is decided after all else that happens in its nanosecond, and
prefetches begin after that; simpy's own are 0 and 1."""


class After(simpy.Event):
    """Happens ``delay`` ns from now, after all of that nanosecond with a lower ``priority``."""

    def __init__(self, env: simpy.Environment, delay: int, priority: int) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        env.schedule(self, priority, delay)  # type: ignore[arg-type]


def happen(event: simpy.Event, delay: int, value: int) -> None:
    """Let ``event`` happen ``delay`` ns from now: one event for what a timeout and it would be.
    Raises ValueError where that is past.
    """
    if delay < 0:
        raise ValueError(delay)
    event._ok, event._value = True, value  # noqa: SLF001 (as simpy's own Timeout does)
    event.env.schedule(event, delay=delay)


class CopyGroup(simpy.Event):
    """Copies of equal size that follow one another, and the event of their end.

    ``amount``: bytes of one; ``known``: when the counts were known; ``index``: of the first among
    the layer's copies; ``after``: the end of the victim's launch for which the first one waits;
    ``ahead``: they do not wait for the host; ``begun``: the first has its turn; ``experts``: which,
    where that is recorded; ``there``: when what is read from storage may be copied, and ``unread``:
    that is not known yet; ``rows``: they bring no experts but rows, which share no link with copies
    of other GPUs. ``spans`` are filled in as it runs.
    """

    after: simpy.Event | None = None
    layer = step = -1
    ahead = begun = unread = rows = False
    there = 0
    experts: tuple[str, ...] = ()

    def __init__(
        self, env: simpy.Environment, count: int, amount: int, copy_ns: int, known: int, index: int
    ) -> None:
        super().__init__(env)
        self.count, self.amount, self.copy_ns = count, amount, copy_ns
        self.known, self.index = known, index
        self.spans: list[tuple[int, int]] = []

    def bring(self, step: int, layer: int, *experts: str) -> None:
        """It is recorded that they bring these ``experts``, of which layer and pass."""
        self.step, self.layer, self.experts = step, layer, experts


@dataclass(frozen=True)
class SharedWay:
    """The way of copies over shared ``links``, first the GPU's own: a latency, then the bytes."""

    fair: FairLinks
    links: tuple[str, ...]

    def latency_ns(self, group: CopyGroup) -> int:
        """What a copy that is alone takes beyond its bytes over the GPU's own link."""
        rate = self.fair.capacity[self.links[0]]
        alone = -(-group.amount * rate.denominator // rate.numerator)
        return max(group.copy_ns - alone, 0)


class CopyIn:
    """Serves groups of copies in the order in which they were submitted; prefetches, one a group,
    while no other copy waits.

    ``host_ns``: host time to issue one copy; ``blocking``: the host waits for each before the next.
    """

    def __init__(
        self, env: simpy.Environment, host_ns: int, *, blocking: bool, way: SharedWay | None = None
    ) -> None:
        self.env, self.host_ns, self.blocking, self.way = env, host_ns, blocking, way
        self.end = self.served = 0
        self._queue: deque[CopyGroup] = deque()
        self._prefetches: deque[CopyGroup] = deque()
        self._busy = False
        self._looks = NEVER
        self.on_copy: Callable[[CopyGroup], None] | None = None

    def submit(self, group: CopyGroup) -> None:
        """Queue ``group``."""
        self._queue.append(group)
        if not self._busy:
            self._busy = True
            self._next()

    def prefetch(self, *groups: CopyGroup) -> None:
        """Queue ``groups`` behind all that is not prefetched."""
        self._prefetches.extend(groups)
        self.look()

    def bring_up(self, copy_ns: int) -> CopyGroup:
        """Queue rows that the host has computed now."""
        group = CopyGroup(self.env, 1, 0, copy_ns, int(self.env.now), 0)
        group.ahead = group.rows = True
        self.submit(group)
        return group

    def withdraw(self, group: CopyGroup) -> None:
        """Take back a prefetch that has not begun."""
        self._prefetches.remove(group)
        self.look()

    def look(self) -> None:
        """Begin the first prefetch as soon as it may, and after all else of that nanosecond."""
        if self._busy or not self._prefetches or self._prefetches[0].unread:
            return
        now = int(self.env.now)
        at = max(self._from(self._prefetches[0]), now)
        if at < self._looks:
            self._looks = at
            After(self.env, at - now, LAST).callbacks.append(self._begin)

    def _begin(self, event: simpy.Event) -> None:
        del event
        self._looks, now = NEVER, int(self.env.now)
        if self._busy or not self._prefetches or self._prefetches[0].unread:
            return
        if self._from(self._prefetches[0]) > now:
            self.look()
            return
        self._busy, group = True, self._prefetches.popleft()
        group.there = max(group.there, now)  # one before it may have held it up
        self._queue.append(group)
        self._next()

    @staticmethod
    def _from(group: CopyGroup) -> int:
        return max(group.known, group.there)

    def _next(self) -> None:
        group = self._queue[0]
        group.begun = True
        if group.after is not None and not group.after.processed:
            group.after.callbacks.append(lambda _: self._start(group))
        else:
            self._start(group)

    def _start(self, group: CopyGroup) -> None:
        if self.way is not None and not group.rows:
            self.env.process(self._share(group, self.way))
            return
        now = int(self.env.now)
        waited = now if group.after is not None else 0
        for index in range(group.index, group.index + group.count):
            start = max(self._issued(group, index), self.end, waited, group.there)
            self.end = start + group.copy_ns
            group.spans.append((start, self.end))
        group.callbacks.insert(0, self._finished)
        happen(group, self.end - now, self.end)

    def _issued(self, group: CopyGroup, index: int) -> int:
        """When the host has issued copy ``index`` of its layer."""
        if group.ahead:
            return group.known
        if self.blocking:
            return max(self.end, group.known) + self.host_ns
        return group.known + (index + 1) * self.host_ns

    def _share(self, group: CopyGroup, way: SharedWay) -> Generator[simpy.Event, None, None]:
        latency = way.latency_ns(group)
        for index in range(group.index, group.index + group.count):
            issued = max(self._issued(group, index), group.there)
            start = max(issued, self.end, int(self.env.now))
            yield self.env.timeout(start + latency - int(self.env.now))
            yield way.fair.transfer(group.amount, way.links)
            self.end = int(self.env.now)
            group.spans.append((start, self.end))
        group.callbacks.insert(0, self._finished)
        group.succeed(self.end)

    def _finished(self, done: simpy.Event) -> None:
        del done
        group = self._queue.popleft()
        if not group.rows:
            self.served += group.count
            if self.on_copy is not None:
                self.on_copy(group)
        if self._queue:
            self._next()
        else:
            self._busy = False
            self.look()
