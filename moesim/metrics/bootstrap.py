"""The block bootstrap of ratios of sums."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 20_240_509
"""Of every resampling: the same result has the same intervals."""


@lru_cache(maxsize=4)
def weights(rows: int, width: int = 1, stream: int = 0) -> Floats:
    """How often each row is drawn: float64[``RESAMPLES``, ``rows``].

    A resample draws as many blocks of ``width`` neighbouring rows as ``rows`` hold, with
    replacement; beyond the last row comes the first, so that all rows are drawn equally often
    (Politis and Romano, "A circular block-resampling procedure for stationary data", 1992).
    Different values of ``stream`` are independent.
    """
    random = np.random.default_rng([SEED, stream])
    begins = random.integers(rows, size=(RESAMPLES, max(1, round(rows / width))))
    places = begins + rows * np.arange(RESAMPLES)[:, None]
    drawn = np.bincount(places.ravel(), minlength=RESAMPLES * rows).reshape(RESAMPLES, rows)
    total = sum(np.roll(drawn, shift, axis=1) for shift in range(width))
    found = np.asarray(total, np.float64)
    found.setflags(write=False)
    return found


def limits(values: Floats, blocks: float) -> tuple[float, float]:
    """The interval of ``CONFIDENCE`` from resampled ``values`` of a statistic of so many
    ``blocks`` side by side.

    Percentiles are too narrow for few blocks; here they lie as far out as Student's t does
    (Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69,
    2015: expanded percentile interval). NaN is left out.
    """
    t = float(stdtrit(blocks - 1, (1 - CONFIDENCE) / 2))
    tail = float(ndtr(math.sqrt(blocks / (blocks - 1)) * t))
    low, high = np.nanquantile(values, (tail, 1 - tail))
    return float(low), float(high)
