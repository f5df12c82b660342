"""Whether a service keeps up with its requests, and intervals of their latencies."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from moesim.metrics.bootstrap import CONFIDENCE
from moesim.metrics.warm_up import mser5

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MOST_BATCHES, FEWEST, LEAST_REQUESTS = 20, 10, 5
"""Batches of neighbouring requests, at least so many requests each; with fewer batches than
``FEWEST`` there is no interval."""
MEANS = ("ttft", "tpot", "e2el", "queue")
PIECES = 20
"""Equal stretches of time over which the waiting line is averaged before its slope is tested."""


class Line(NamedTuple):
    """How many were ``waiting`` int64[n] from each of ``instants_ns`` int64[n] on."""

    instants_ns: Ints
    waiting: Ints

    def means(self, begin: int, end: int) -> Floats:
        """Means over ``PIECES`` equal stretches from ``begin`` to ``end``."""
        cuts = begin + (end - begin) * np.arange(PIECES + 1) / PIECES
        lasts = np.append(self.instants_ns[1:], max(end, int(self.instants_ns[-1])))
        sums = np.concatenate(([0.0], np.cumsum(self.waiting * (lasts - self.instants_ns))))
        edges = np.append(self.instants_ns, lasts[-1]).astype(np.float64)
        return np.diff(np.interp(cuts, edges, sums)) * PIECES / (end - begin)


def grows(line: Line, begin: int, end: int) -> bool:
    """Whether the line is longer the later it is, from the first arrival ``begin`` to the last,
    ``end``: a slope of its means that is above 0 by Student's t, one-sided, at ``CONFIDENCE``, and
    by which it has grown by a request or more.
    """
    if end <= begin or not len(line.waiting):
        return False
    means = line.means(begin, end)
    place = np.arange(PIECES) - (PIECES - 1) / 2
    slope = float((place * means).sum() / (place**2).sum())
    rest = means - means.mean() - slope * place
    error = float(np.sqrt((rest**2).sum() / (PIECES - 2) / (place**2).sum()))
    return slope * (PIECES - 1) >= 1 and slope > float(stdtrit(PIECES - 2, CONFIDENCE)) * error


def latency_intervals(times_ms: dict[str, Floats], warm_up: int | None) -> dict[str, Any]:
    """Means of requests' times with intervals from the means of batches of neighbours, in order of
    arrival, behind ``warm_up`` requests (None: as many as MSER-5 leaves out of TTFT).

    ``times_ms`` float64[n] by name, in order of arrival. Source: Law, "Simulation Modeling and
    Analysis", 5th ed., 9.5.3 (batch means).
    """
    first = times_ms["ttft"]
    skipped = mser5(first[~np.isnan(first)]) if warm_up is None else warm_up
    left = len(first) - skipped
    batches = min(MOST_BATCHES, max(left, 0) // LEAST_REQUESTS)
    reason = None
    if batches < FEWEST:
        reason = f"{max(left, 0)} requests after the warm-up; an interval needs"
        reason += f" {FEWEST * LEAST_REQUESTS}"
    return {
        "confidence": CONFIDENCE,
        "warm_up_requests": skipped,
        "batches": batches,
        "reason": reason,
        **{f"mean_{name}_ms": _interval(times_ms[name][skipped:], batches) for name in MEANS},
    }


def _interval(values: Floats, batches: int) -> dict[str, float | None]:
    known = values[~np.isnan(values)]
    if not len(known):
        return dict.fromkeys(("value", "low", "high"))
    mean = float(known.mean())
    if batches < FEWEST or len(known) < batches:
        return {"value": mean, "low": None, "high": None}
    means = np.array([one.mean() for one in np.array_split(known, batches)])
    far = float(stdtrit(batches - 1, (1 + CONFIDENCE) / 2) * means.std(ddof=1) / np.sqrt(batches))
    return {"value": mean, "low": mean - far, "high": mean + far}
