"""The local clock of one GPU's compute, and what its time is charged to."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

from moesim.engine.des.copies import CopyGroup
from moesim.engine.des.records import Records

Events = Generator[simpy.Event, Any, None]


class Compute:
    """``time`` runs ahead of the event loop's and meets it where something else is waited for, so
    that work that nothing waits for needs no event. ``cursor``: charged up to here.
    """

    def __init__(self, env: simpy.Environment, number: int, *, spans: bool) -> None:
        self.env, self.number, self.keep_spans = env, number, spans
        self.records = Records()
        self.time = self.cursor = self.step = 0
        self.charges = [0] * 8

    def charge(self, category: int, until: int) -> None:
        """Charge the time up to ``until`` that is not charged yet."""
        if until > self.cursor:
            self.charges[category] += until - self.cursor
            self.cursor = until

    def reach(self) -> Events:
        """Let the event loop catch up with the local clock."""
        if self.time > self.env.now:
            yield self.env.timeout(self.time - self.env.now)

    def keep_copies(self, group: CopyGroup) -> None:
        """Record the copies of ``group`` when it has ended."""
        self.records.copies(group, self.number)

    def span(self, engine: str, name: str, start: int, end: int, layer: int) -> None:
        """Record one job of an engine; asked for only where ``keep_spans``."""
        self.records.job(engine, name, start, end, (self.number, self.step, layer))
