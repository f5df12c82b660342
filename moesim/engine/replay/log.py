"""What runs of one process share: active experts, stack distances and decisions of earlier runs."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.amounts.sizes import GIB

Arrays = tuple[NDArray[Any], ...]
MOST_BYTES = GIB
SHARE_OF_MEMORY = 8


def _most_bytes() -> int:
    """A GiB, or less: a process for each processor may have an eighth of the memory together."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(MOST_BYTES, memory // (SHARE_OF_MEMORY * (os.cpu_count() or 1)))


@dataclass
class DecisionLog:
    """Values by key, ``most_bytes`` in all; those used least recently go first.

    ``decisions``: also the decisions of a run, for others in which only prices differ; else what
    runs with other slots and policies share.
    """

    decisions: bool = False
    most_bytes: int = field(default_factory=_most_bytes)
    asked: Counter[Hashable] = field(default_factory=Counter)
    """How often each key was asked for."""
    _kept: OrderedDict[Hashable, tuple[Any, int]] = field(default_factory=OrderedDict)
    _size: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets an empty one."""
        return DecisionLog, (self.decisions, self.most_bytes)

    def get(self, key: Hashable) -> Any:
        """The value of ``key``, None where there is none."""
        self.asked[key] += 1
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keep ``value``, of ``size`` bytes, if it is not more than all may be."""
        if key in self._kept or size > self.most_bytes:
            return
        self._kept[key] = (value, size)
        self._size += size
        while self._size > self.most_bytes:
            _, (_, gone) = self._kept.popitem(last=False)
            self._size -= gone


class Parts:
    """The arrays of a run, part by part: read where an earlier run kept them all, else made and,
    at the end, kept. Without a ``log`` they are made.
    """

    def __init__(self, log: DecisionLog | None, key: Hashable) -> None:
        self._log, self._key = log, key
        self._whole: dict[int, Any] | None = log.get(key) if log else None
        self._made: dict[int, Any] = {}
        self._size = 0

    @property
    def known(self) -> bool:
        """Whether an earlier run kept them."""
        return self._whole is not None

    def arrays(self, part: int, make: Callable[[], Arrays]) -> Arrays:
        """Part number ``part``."""
        kept = (self._whole or self._made).get(part)
        if kept is not None:
            return tuple(values.astype(dtype, copy=False) for values, dtype in kept)
        made = make()
        if self._log is not None and self._size <= self._log.most_bytes:
            narrow = [(_narrowed(values), values.dtype) for values in made]
            self._made[part] = narrow
            self._size += sum(values.nbytes for values, _ in narrow)
            if self._size > self._log.most_bytes:  # they will not be kept
                self._made.clear()
        return made

    def end(self) -> None:
        """All parts were asked for: keep them."""
        if self._log is not None and not self.known:
            self._log.put(self._key, self._made, self._size)


def _narrowed(values: NDArray[Any]) -> NDArray[Any]:
    """``values`` in as few bytes as they need."""
    if values.dtype == np.bool_ or not values.size:
        return values.copy()
    least, most = np.min_scalar_type(int(values.min())), np.min_scalar_type(int(values.max()))
    return values.astype(np.result_type(least, most))
