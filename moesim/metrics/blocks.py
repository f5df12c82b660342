"""Sums over blocks of consecutive steps: what intervals are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

Kind = Literal["batch", "steps"]
OVERLAP = 4
"""Rows of one block of steps, each as long as the average request. Steps are alike while they share
requests: with blocks of one row, intervals hold 85 % of the time, with four 92 %
(``verification/intervals.py``)."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Sums over steps that follow each other.

    ``sums`` has a row for each piece, with the columns of a result's table ``blocks``; a piece is a
    block (``kind`` batch) or ``OVERLAP`` of them are (steps). The first ``warm_up`` rows are no
    steady state. ``trace``: the digest of the trace, "" where it is not known.
    """

    sums: pd.DataFrame
    kind: Kind
    warm_up: int = 0
    trace: str = ""

    def width(self, rows: int) -> int:
        """Of so many ``rows`` those that are resampled together: of steps a block; of batches the
        cube root of how many there are (Hall, Horowitz and Jing, "On blocking rules for the
        bootstrap with dependent data", Biometrika 82, 1995), since a batch finds the cache that the
        one before it left, and the next request is often of the same domain.
        """
        return max(1, round(rows ** (1 / 3))) if self.kind == "batch" else OVERLAP

    def apart(self, rows: int) -> float:
        """How many of what is resampled ``rows`` hold side by side."""
        return rows / self.width(rows)

    @property
    def kept(self) -> pd.DataFrame:
        """The rows after the warm-up."""
        return self.sums.iloc[self.warm_up :]

    def count(self, rows: int) -> int:
        """Blocks that ``rows`` rows hold side by side."""
        width = 1 if self.kind == "batch" else OVERLAP
        return max(1, round(rows / width)) if rows else 0
