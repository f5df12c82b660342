"""From repeated times to one number, its interval and its spread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

QUANTILE = 0.5
CONFIDENCE = 0.95


class Summary(NamedTuple):
    """A time, half the width of its 95 % interval and the spread of visits, both in percent.

    ``interval_percent`` is infinite as long as there are too few visits for an interval.
    """

    latency_ns: float
    interval_percent: float
    spread_percent: float
    repeats: int


def summary(visits: Sequence[Sequence[float]]) -> Summary:
    """The median over visits of each visit's median.

    Times within a visit share what else the machine does just then, so a visit counts once. The
    interval of the median is free of any distribution (order statistics); the spread is between
    the quartiles of visits.
    """
    medians = np.sort([np.median(times) for times in visits])
    middle = float(np.quantile(medians, QUANTILE))
    low, high = np.quantile(medians, (0.25, 0.75))
    ranks = interval_ranks(len(medians))
    interval = np.inf if ranks is None else 50 * (medians[ranks[1]] - medians[ranks[0]]) / middle
    repeats = sum(len(times) for times in visits)
    return Summary(middle, float(interval), float(100 * (high - low) / middle), repeats)


@lru_cache(maxsize=1024)
def interval_ranks(count: int) -> tuple[int, int] | None:
    """The ranks, from 0, of ``count`` sorted values between which their quantile lies with 95 %.

    None where even the whole range holds it less often.
    """
    from scipy.stats import binom

    tail = (1 - CONFIDENCE) / 2
    low = int(binom.ppf(tail, count, QUANTILE)) - 1
    high = int(binom.ppf(1 - tail, count, QUANTILE))
    if low < 0 or high >= count:
        return None
    return low, high
