"""Reads from storage for prefetches, of nodes with one GPU each (docs/semantics.md)."""

from __future__ import annotations

from typing import Any

from .reference_misses import SKIP
from .reference_policies import Expert
from .reference_prefetch import Copy
from .reference_storage import Host
from .reference_words import Activation


class HostAhead(Host):
    """A host that is also asked for what is predicted, by a drive that reads this when it has
    nothing else to do.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.ahead = 0  # reads of prefetches
        self.queue: list[Copy] = []  # those that are to be read
        self.last_read: dict[Expert, int] = {}  # when an expert's last read ends

    def read_ahead(self, now: int) -> None:
        """Reads of prefetches that begin before ``now``, in order."""
        while self.queue:
            copy = self.queue[0]
            start = max(self.free, copy.asked)
            if start >= now:
                return
            self.free = start
            self.begin(copy)

    def begin(self, copy: Copy) -> None:
        if copy in self.queue:
            self.queue.remove(copy)
        copy.read, self.ahead = True, self.ahead + 1
        copy.there = self.last_read[copy.expert] = self.read(self.size(copy.expert))

    def cancel(self, copy: Copy) -> None:
        """A prefetch that is not made is not read, unless that has begun."""
        if copy in self.queue:
            self.queue.remove(copy)
            self.resident.discard(self.named(copy.expert))

    def prefetch(self, step: int, m: int, copies: list[Copy], now: int) -> None:
        """Prefetches were issued: what is not in memory will be read."""
        wanted = [self.named(copy.expert) for copy in copies]
        for place, copy in enumerate(copies):
            if self.wants(step, m, wanted[place], wanted, place):
                copy.there = self.arriving(copy.expert, now) or 0
            else:
                copy.there, copy.asked = None, now
                self.queue.append(copy)

    def before(self, step: int, copies: list[Copy], now: int) -> int:
        """As ``prefetch``, before a pass; until when that waits."""
        self.prefetch(step, 0, copies, now)
        self.free = max(self.free, now)
        for copy in copies:
            if copy.there is None:
                self.begin(copy)
        return max([0, *(self.last_read.get(copy.expert, 0) for copy in copies)])

    def may_copy(self, copy: Copy) -> int | None:
        """From when on what is predicted may be copied."""
        return None if copy.there is None else copy.there - self.lead(copy.expert[0])

    def named(self, expert: Expert) -> Expert:
        """The expert of the router that the GPU's stands for."""
        return expert[0], self.held[expert[0]][expert[1]]

    def arriving(self, expert: Expert, now: int) -> int | None:
        """When an expert that is in memory is there; None where it has been."""
        end = self.last_read.get(expert, 0)
        return end if end > now else None

    def layer(self, step: int, m: int, g: int, activations: list[Activation], known: int) -> None:
        """As ever, but that late experts whose read waits are read among the others."""
        missed = [one for one in activations if one.missed and one.place != SKIP]
        late = [one for one in activations if one.late]
        wanted = sorted(self.named((m, one.expert)) for one in missed)
        there = {e: self.wants(step, m, e, wanted, place) for place, e in enumerate(wanted)}
        self.hits += sum(there.values())
        self.free = max(self.free, known)
        for one in sorted([*missed, *late], key=lambda one: self.named((m, one.expert))):
            if one.late and one.copy in self.queue:
                self.begin(one.copy)
            elif one.missed and not there[self.named((m, one.expert))]:
                self.last_read[m, one.expert] = self.read(self.size((m, one.expert)))
        for one in [*missed, *late]:
            one.read = self.arriving((m, one.expert), known)
