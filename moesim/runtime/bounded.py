"""An array that knows its bounds: compiled code reads and writes past them, and says nothing."""

from __future__ import annotations

from typing import Any

import numpy as np


class Bounded(np.ndarray):  # type: ignore[type-arg,unused-ignore]
    """State of experts. A column below 0 is an IndexError, too: numpy and numba take it from the
    end, which is another expert's.
    """

    def __getitem__(self, index: Any) -> Any:
        """As numpy."""
        self._check(index)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        """As numpy."""
        self._check(index)
        super().__setitem__(index, value)

    def _check(self, index: Any) -> None:
        *rows, column = index if isinstance(index, tuple) else (index,)
        if len(rows) == self.ndim - 1 and isinstance(column, int | np.integer) and column < 0:
            what = f"index {column} is out of bounds for axis {len(rows)}"
            raise IndexError(f"{what} with size {self.shape[-1]}")
