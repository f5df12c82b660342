"""The local clock of one GPU's compute, and what its time is charged to."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

from moesim.engine.des.records import Records
from moesim.engine.outcome import Span

Events = Generator[simpy.Event, Any, None]


class Compute:
    """``time`` runs ahead of the event loop's and meets it where something else is waited for, so
    that work that nothing waits for needs no event. ``cursor``: charged up to here. ``host``: the
    host has launched everything so far.
    """

    def __init__(
        self, env: simpy.Environment, number: int, categories: tuple[str, ...], *, spans: bool
    ) -> None:
        self.env, self.number, self.keep_spans = env, number, spans
        self.records = Records()
        self.time = self.cursor = self.host = self.step = 0
        self.layer = -1
        self.categories = categories
        self.charges = [0] * len(categories)

    def charge(self, category: int, until: int, name: str, experts: str = "") -> None:
        """Charge the time up to ``until`` that is not charged yet: a span of the GPU's time. That
        of ``experts`` is kept though it may cost nothing.
        """
        begin = self.cursor
        if until > begin:
            self.charges[category] += until - begin
            self.cursor = until
        if self.keep_spans:
            self.span("compute", name, begin, self.cursor, self.categories[category], experts)

    def launch(self, what: str, until: int, since: int = 0) -> None:
        """The host is busy until ``until``, from when it is free, at the earliest from ``since``
        on.
        """
        if self.keep_spans:
            self.span("host", what, max(self.host, since), until, "host")
        self.host = until

    def reach(self) -> Events:
        """Let the event loop catch up with the local clock."""
        if self.time > self.env.now:
            yield self.env.timeout(self.time - self.env.now)

    def hold(self, time: int, experts: int) -> None:
        """There are ``experts`` in slots from ``time`` on."""
        held = self.records.held
        if self.keep_spans and (not held or held[-1][1] != experts):
            held.append((time, experts))

    def span(
        self, engine: str, name: str, start: int, end: int, category: str, experts: str = "",
        amount: int = 0,
    ) -> None:  # fmt: skip
        """Record one job of an engine that takes time or runs experts; asked for only where
        ``keep_spans``.
        """
        if end > start or experts:
            where = (self.step, self.layer)
            span = Span(self.number, engine, name, category, start, end, *where, experts, amount)
            self.records.spans.append(span)
