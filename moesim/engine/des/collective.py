"""Where the GPUs of a group meet."""

from __future__ import annotations

import simpy


class Collective:
    """A rendezvous of ``gpus`` processes, used again and again; the slowest holds the others."""

    def __init__(self, env: simpy.Environment, gpus: int) -> None:
        self.env, self.gpus = env, gpus
        self._open()

    def _open(self) -> None:
        self._arrived, self._latest, self._event = 0, 0, self.env.event()

    def arrive(self, time_ns: int) -> simpy.Event:
        """Be there from ``time_ns``; the event's value is the time at which the last one is."""
        event = self._event
        self._arrived += 1
        self._latest = max(self._latest, time_ns)
        if self._arrived == self.gpus:
            latest = self._latest
            self._open()
            event.succeed(latest)
        return event
