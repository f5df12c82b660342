"""Errors on shapes that a fit has not seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.hardware.measurements.validate import Mask
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.left_out import HeldOut

LEAST_SHAPES = 4


def groups(table: pd.DataFrame, columns: tuple[str, ...]) -> NDArray[np.int64]:
    """The number of each row's shape, by the values of ``columns``; without any, all are alike."""
    names = [name for name in columns if name in table.columns]
    if not names:
        return np.zeros(len(table), np.int64)
    numbers = table.groupby(names, dropna=False, sort=True).ngroup()
    return np.asarray(numbers, np.int64)


def halves(shape: NDArray[np.int64], seed: int = 0) -> Iterator[tuple[Mask, Mask]]:
    """(fit on, test on): the shapes in two random halves, both ways round."""
    order = np.random.default_rng(seed).permutation(np.unique(shape))
    first = np.isin(shape, order[: len(order) // 2])
    yield first, ~first
    yield ~first, first


def summary(ratio: Floats, shape: NDArray[np.int64]) -> HeldOut:
    """The errors where ``ratio`` is price over measured time, in percent."""
    error = np.abs(ratio - 1) * 100
    return HeldOut(
        points=len(error),
        shapes=len(np.unique(shape)),
        median_percent=round(float(np.median(error)), 2),
        p90_percent=round(float(np.percentile(error, 90)), 2),
        largest_percent=round(float(error.max()), 2),
    )
