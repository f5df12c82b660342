"""What each part of a step took, on the host's clock or on the device's."""

from __future__ import annotations

from time import thread_time_ns
from typing import Any, Protocol

PARTS = ("attention", "gate", "host", "weights", "experts", "unpermute", "head")
"""The parts of a step, as moesim charges them: ``weights`` is the wait for copies, ``host`` for
the router's choices on the host; ``unpermute`` the weighted sum of the experts' rows; ``head`` the
embedding too.
"""
ATTENTION, GATE, HOST, WEIGHTS, EXPERTS, UNPERMUTE, HEAD = range(len(PARTS))

Mark = tuple[int, int, int]
"""Layer, part and nanoseconds; layer -1 is the model's ends."""


class Clock(Protocol):
    """Times a step: ``mark`` gives the time since the mark before to a part of a layer."""

    def start(self) -> None: ...  # noqa: D102
    def mark(self, layer: int, part: int) -> None: ...  # noqa: D102
    def marks(self) -> list[Mark]: ...  # noqa: D102


class HostClock:
    """For a device that is the host: a part has ended when its call returns.

    The time is the thread's own: what other programs get of its core is no part of the decode.
    """

    def start(self) -> None:
        """Begin a step."""
        self._marks: list[Mark] = []
        self._last = thread_time_ns()

    def mark(self, layer: int, part: int) -> None:
        """See Clock."""
        now = thread_time_ns()
        self._marks.append((layer, part, now - self._last))
        self._last = now

    def marks(self) -> list[Mark]:
        """All marks of the step."""
        return self._marks


class EventClock:
    """For CUDA: events of the compute stream, read after the step."""

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda

    def start(self) -> None:
        """Begin a step."""
        self._events: list[tuple[int, int, Any]] = [(-1, HEAD, self._event())]

    def mark(self, layer: int, part: int) -> None:
        """See Clock."""
        self._events.append((layer, part, self._event()))

    def marks(self) -> list[Mark]:
        """All marks of the step, once the device has done it."""
        self._cuda.synchronize()
        begins = [event for _, _, event in self._events]
        return [
            (layer, part, round(begin.elapsed_time(end) * 1e6))
            for begin, (layer, part, end) in zip(begins, self._events[1:], strict=False)
        ]

    def _event(self) -> Any:
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event
