"""Fitting positive numbers in log space, with soft_l1 and a weak log-normal prior.

A number that the table does not show stays where its prior puts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.prices.arrays import Floats

CONFIDENCE = 1.96
INSIDE = 1e-6


class Prior(NamedTuple):
    """For each number: its middle, the standard deviation of its logarithm, and its bounds."""

    center: Floats
    width: Floats
    least: Floats
    largest: Floats


class Found(NamedTuple):
    """The numbers [k], the ends of their 95 % intervals [2, k], and the cost."""

    numbers: Floats
    ends: NDArray[np.float64]
    cost: float


def fit_logarithms(
    price_ns: Callable[[Floats], Floats],
    measured_ns: Floats,
    prior: Prior,
    scale: float,
    starts: Sequence[Floats] | None = None,
) -> Found:
    """The numbers whose ``price_ns`` is nearest to ``measured_ns``.

    Errors well above ``scale`` (a share) count by their size, not its square. ``starts`` are shifts
    of the middle's logarithms; the best one counts. With no more points than numbers the intervals
    are those of ``scale`` and the prior.
    """
    from scipy.optimize import least_squares

    center, low, high = np.log(prior.center), np.log(prior.least), np.log(prior.largest)
    target = np.log(measured_ns)

    def residuals(logs: Floats) -> Floats:
        errors = (np.log(price_ns(np.exp(logs))) - target) / scale
        return np.concatenate([errors, (logs - center) / prior.width])

    shifts = starts or [np.zeros(len(center))]
    first = [np.clip(center + shift, low + INSIDE, high - INSIDE) for shift in shifts]
    tried = [least_squares(residuals, x, bounds=(low, high), loss="soft_l1") for x in first]
    best = min(tried, key=lambda found: float(found.cost))
    spare = len(target) - len(center)
    size = max(2 * float(best.cost) / spare, INSIDE) if spare > 0 else 1.0
    slope = np.asarray(best.jac, np.float64)
    spread = CONFIDENCE * np.sqrt(np.diag(np.linalg.pinv(slope.T @ slope)) * size)
    ends = np.exp(np.clip([best.x - spread, best.x + spread], low, high))
    return Found(np.exp(best.x), ends, float(best.cost))
