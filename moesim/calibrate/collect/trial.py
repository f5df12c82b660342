"""Trials of torch calls: which operands each call gets, and what is in the cache before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from moesim.calibrate.collect.device import CACHES, Call, Device

LARGEST_SETS, FLUSHED_CALLS = 64, 16


class Take(Protocol):
    """Cuts a tensor of weights from the pool."""

    def __call__(self, *shape: int) -> Any:
        """A tensor [shape]."""
        ...


Build = Callable[[Take], Call]
"""Makes one call with operands of its own."""


class CallTrial:
    """Times calls one by one.

    Warm: the same operands again and again. Cold: operands in turn, together several times the
    last cache; where so many would be needed that they are not made, the cache is flushed before
    each call, which on a CPU drives out the code too, as the layer before does in a model.
    """

    def __init__(
        self,
        device: Device,
        build: Build,
        dtype: str,
        set_bytes: int,
        warm: bool = False,
        cut_bytes: int | None = None,
    ) -> None:
        """``set_bytes``: what a call reads of its operands; ``cut_bytes``: what they take of the
        pool where that is more.
        """
        self.device, self.warm = device, warm
        needed = -(-CACHES * device.cache_bytes // max(set_bytes, 1))
        room = max(device.pool.size_bytes // cut_bytes, 1) if cut_bytes else LARGEST_SETS
        sets = 1 if warm else min(needed, room, LARGEST_SETS)
        self.calls = [
            build(lambda *shape: device.pool.take(*shape, dtype=dtype)) for _ in range(sets)
        ]
        self.flushes = not warm and sets < needed
        self._next = 0

    def warm_up(self) -> None:
        """See ``Trial``."""
        self.calls[-1]()

    def samples(self, count: int) -> list[float]:
        """See ``Trial``."""
        if self.warm:
            return self.device.time(self.calls * count)
        times: list[float] = []
        count = min(count, FLUSHED_CALLS) if self.flushes else count
        while len(times) < count:
            if self.flushes:
                self.device.flush()
            part = self.calls[self._next : self._next + (1 if self.flushes else count - len(times))]
            times += self.device.time(part)
            self._next = (self._next + len(part)) % len(self.calls)
        return times


class RepeatedTrial:
    """Times one call by a clock of the device, the cache as it is.

    ``inner``: how often the call does the same thing, as what is too short to be timed alone.
    """

    def __init__(
        self, call: Call, time: Callable[[list[Call]], list[float]], inner: int = 1
    ) -> None:
        self.call, self.time, self.inner = call, time, inner

    def warm_up(self) -> None:
        """See ``Trial``."""
        self.call()

    def samples(self, count: int) -> list[float]:
        """See ``Trial``."""
        return [total / self.inner for total in self.time([self.call] * count)]
