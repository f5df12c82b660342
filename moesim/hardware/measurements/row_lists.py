"""The column ``rows``: rows per expert, lists of different lengths."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.hardware.prices.arrays import Ints

LARGEST = 2.0**53
"""Of a whole number that a float holds exactly."""


class RowLists(NamedTuple):
    """The lists one after another, the length of each (0: not given), and which are no lists of
    whole numbers of at least 0.
    """

    counts: Ints
    members: Ints
    malformed: NDArray[np.bool_]


def row_lists(table: pd.DataFrame) -> RowLists:
    """The row lists of a table; a malformed one counts as not given."""
    number = len(table)
    if "rows" not in table.columns:
        return RowLists(np.zeros(0, np.int64), np.zeros(number, np.int64), np.zeros(number, bool))
    values = table["rows"].to_numpy(object)
    lists = [_list(value) for value in values]
    malformed = np.array([entry is None for entry in lists], bool)
    arrays = [entry for entry in lists if entry is not None]
    members = np.array([0 if entry is None else entry.size for entry in lists], np.int64)
    counts = np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
    if (counts < 0).any():
        negative = _any_negative(counts, members)
        clean = np.repeat(negative, members)
        malformed, counts = malformed | negative, counts[~clean]
        members = np.where(negative, 0, members)
    return RowLists(counts.astype(np.int64, copy=False), members, malformed)


def group_largest(counts: Ints, members: Ints) -> Ints:
    """The largest of consecutive groups with ``members`` entries each; 0 of an empty one."""
    largest = np.zeros(len(members), np.int64)
    np.maximum.at(largest, np.repeat(np.arange(len(members)), members), counts)
    return largest


def _any_negative(counts: Ints, members: Ints) -> NDArray[np.bool_]:
    owner = np.repeat(np.arange(len(members)), members)
    return np.bincount(owner[counts < 0], minlength=len(members)) > 0


def _list(value: Any) -> Ints | None:
    """``value`` as whole numbers; empty where there is none, None where it is something else."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        return value.astype(np.int64, copy=False)
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return np.zeros(0, np.int64)
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    whole = numbers.ndim == 1 and bool((numbers == np.floor(numbers)).all())
    whole = whole and bool((np.abs(numbers) < LARGEST).all())
    return numbers.astype(np.int64) if whole else None
