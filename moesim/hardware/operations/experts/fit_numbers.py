"""Fitting the grouped expert kernel's numbers to a measurement table.

In log space with Cauchy's loss at 2 %, from three starts, under a weak log-normal prior around the
datasheet, so that a number which the table does not show stays where the datasheet puts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.card import Card
from moesim.hardware.measurements.validate import Mask
from moesim.hardware.operations.experts.fit_shapes import ExpertShapes, chosen, expert_work
from moesim.hardware.operations.experts.kernel import ExpertNumbers, Work, terms
from moesim.hardware.operations.experts.tiles import (
    FAMILIES,
    MARLIN,
    TRITON,
    TRITON_OLDER,
    TRTLLM,
)
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.calibrated import Family

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

SCALE = 0.02
"""Errors well above this hardly count: tables have clusters of slow clocks and tuned tiles."""
PRIOR_WIDTH = ExpertNumbers(0.5, 0.15, 0.4, 0.7, 0.7, 0.6, 0.15, 1.2, 0.8, 0.5)
"""Standard deviations of the logarithms of the numbers around their start."""
LEAST = ExpertNumbers(1e3, 0.3, 0.05, 1.0, 0.05, 0.05, 0.3, 1e-3, 1e-3, 0.5)
LARGEST = ExpertNumbers(1e6, 1.0, 1.0, 30.0, 1.0, 20.0, 1.0, 5.0, 5.0, 100.0)
STARTS = (0.0, 0.3, -0.3)
NAMED: Mapping[str, tuple[Family, ...]] = {
    "marlin": (MARLIN,),
    "trtllm": (TRTLLM,),
    "triton": (TRITON, TRITON_OLDER),
    "fused_moe": (TRITON, TRITON_OLDER),
}
"""What parts of a kernel's name tell of its tiles; CUTLASS kernels differ from card to card."""
UNNAMED: tuple[Family, ...] = tuple(family for family in FAMILIES if family != MARLIN)
"""What a kernel may be whose name tells nothing."""
CONFIDENCE = 1.96
INSIDE = 1e-6


class Fitted(NamedTuple):
    """The numbers, their 95 % intervals by name, the family and the cost."""

    numbers: ExpertNumbers
    intervals: dict[str, tuple[float, float]]
    family: Family
    cost: float


def vector(numbers: ExpertNumbers) -> Floats:
    """The numbers as an array, in order."""
    return np.array([getattr(numbers, name) for name in ExpertNumbers.names()], np.float64)


def from_logs(logs: NDArray[np.float64]) -> ExpertNumbers:
    """The numbers of which these are the logarithms."""
    return ExpertNumbers(*(float(value) for value in np.exp(logs)))


def fit_work(work: Work, latency_ns: Floats, card: Card) -> Fitted:
    """The best numbers for one family's work."""
    from scipy.optimize import least_squares

    center, width = np.log(vector(ExpertNumbers())), vector(PRIOR_WIDTH)
    low, high = np.log(vector(LEAST)), np.log(vector(LARGEST))
    measured = np.log(latency_ns)

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        price = np.log(terms(from_logs(logs), work, card).total)
        return np.concatenate([(price - measured) / SCALE, (logs - center) / width])

    best: OptimizeResult | None = None
    for shift in STARTS:
        start = np.clip(center + _shifted(shift), low + INSIDE, high - INSIDE)
        found = least_squares(residuals, start, bounds=(low, high), loss="cauchy")
        if best is None or found.cost < best.cost - INSIDE:
            best = found
    assert best is not None, "there is a start"
    return Fitted(from_logs(best.x), _intervals(best, low, high), work.family, float(best.cost))


def _shifted(shift: float) -> Floats:
    """Another start: more or less overlap, L2 and tail, which trade with one another."""
    moves = {"overlap": 2 * shift, "l2": -shift, "tail": 2 * shift}
    return np.array([moves.get(name, 0.0) for name in ExpertNumbers.names()])


def _intervals(found: OptimizeResult, low: Floats, high: Floats) -> dict[str, tuple[float, float]]:
    """95 % intervals from the curvature at the optimum, scaled by the size of the errors."""
    data = max(len(found.fun) - 2 * len(found.x), 1)
    size = max(2 * float(found.cost) / data, 1e-6)
    spread = np.sqrt(np.diag(np.linalg.pinv(found.jac.T @ found.jac)) * size)
    ends = np.clip([found.x - CONFIDENCE * spread, found.x + CONFIDENCE * spread], low, high)
    lower, upper = np.exp(ends)
    names = ExpertNumbers.names()
    return {n: (float(a), float(b)) for n, a, b in zip(names, lower, upper, strict=True)}


def families_of(kernel: str | None) -> tuple[Family, ...]:
    """The families that a table's ``kernel_source`` can mean; ``UNNAMED`` where it names none."""
    named = (kernel or "").lower()
    return next((families for name, families in NAMED.items() if name in named), UNNAMED)


def fit_experts(
    shapes: ExpertShapes,
    latency_ns: Floats,
    card: Card,
    mask: Mask,
    families: Iterable[Family] = UNNAMED,
) -> Fitted:
    """The numbers and the family with the least cost on the launches in ``mask``."""
    fits = [
        fit_work(chosen(expert_work(shapes, family), mask), latency_ns[mask], card)
        for family in families
    ]
    return min(fits, key=lambda fitted: fitted.cost)
