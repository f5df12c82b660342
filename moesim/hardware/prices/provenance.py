"""The provenance of a price: what it rests on."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from moesim.hardware.prices.arrays import Floats


class Source(IntEnum):
    """Where a price comes from; its place in arrays of nanoseconds by source.

    ``OUTSIDE`` is a fitted price of a shape beyond what the fit saw.
    """

    MEASURED = 0
    INTERPOLATED = 1
    FITTED = 2
    DATASHEET = 3
    OUTSIDE = 4


SOURCES = tuple(source.name.lower() for source in Source)
"""The names in order."""


def by_source(price_ns: Floats, source: Source | NDArray[np.int64]) -> Floats:
    """Nanoseconds by source float64[5] of prices [n] with one source, or one each."""
    codes = np.broadcast_to(np.asarray(source, np.int64), np.shape(price_ns)).ravel()
    return np.bincount(codes, np.ravel(price_ns), len(Source)).astype(np.float64)
