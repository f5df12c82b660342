"""Arrays that grow at their end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Growing:
    """Values [n, *shape] in memory that doubles when it is full, so that none is moved often."""

    def __init__(self, dtype: DTypeLike = np.int64, shape: tuple[int, ...] = ()) -> None:
        self._room, self._length = np.empty((0, *shape), dtype), 0

    @property
    def values(self) -> NDArray[Any]:
        """All of them, to be read and written in place until more come."""
        return self._room[: self._length]

    def extend(self, more: NDArray[Any]) -> None:
        """Add ``more`` [m, *shape]."""
        length = self._length + len(more)
        if length > len(self._room):
            room = np.empty(
                (max(length, 2 * self._length), *self._room.shape[1:]), self._room.dtype
            )
            room[: self._length] = self.values
            self._room = room
        self._room[self._length : length] = more
        self._length = length
