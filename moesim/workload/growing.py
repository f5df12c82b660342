"""Arrays that grow at their end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Growing:
    """Values [n, *shape] in memory that doubles when it is full, so that none is moved often;
    ``zeros``: those that were never written are 0.
    """

    def __init__(
        self, dtype: DTypeLike = np.int64, shape: tuple[int, ...] = (), *, zeros: bool = False
    ) -> None:
        self._room, self._length = np.empty((0, *shape), dtype), 0
        self._zeros = zeros

    @property
    def values(self) -> NDArray[Any]:
        """All of them, to be read and written in place until more come."""
        return self._room[: self._length]

    def extend(self, more: NDArray[Any]) -> None:
        """Add ``more`` [m, *shape]."""
        self.more(len(more))[:] = more

    def more(self, number: int) -> NDArray[Any]:
        """Add so many values, which are to be filled in."""
        self.reserve(number)
        self._length += number
        return self._room[self._length - number : self._length]

    def reserve(self, number: int) -> None:
        """Have room for so many values more, and for as many as there are."""
        if self._length + number > len(self._room):
            length = self._length + max(number, self._length)
            make = np.zeros if self._zeros else np.empty
            room = make((length, *self._room.shape[1:]), self._room.dtype)
            if not self._zeros or self._room.any():
                room[: self._length] = self.values
            self._room = room

    def cut(self, number: int) -> None:
        """Keep the first ``number`` values."""
        self._length = number
