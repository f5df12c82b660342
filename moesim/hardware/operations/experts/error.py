"""How wrong prices of expert kernels have been on what they had not seen."""

from __future__ import annotations

from collections.abc import Mapping
from math import expm1
from statistics import median
from typing import NamedTuple

import numpy as np

from moesim.config.counted import counted
from moesim.hardware.described.reached import KERNELS, kernels_reach
from moesim.hardware.operations.experts.calibrated import choose, distance, fits_for, shapes_of
from moesim.hardware.prices.calibrated import ExpertFit, Fit
from moesim.hardware.profile import HardwareProfile
from moesim.model.spec import ModelSpec

LEFT_OUT: Mapping[str, tuple[float, float]] = {
    "a100-sxm-80gb": (28.8, 40.0),
    "h100-sxm": (6.1, 12.0),
    "h200-sxm": (7.8, 15.8),
    "b200-sxm": (4.9, 37.8),
    "l40s": (7.0, 9.6),
    "rtx-pro-6000": (9.1, 17.7),
}
"""Median and p90 error in percent of each card's bf16 expert kernels, priced from its datasheet
with the fractions that fits of the other cards found (``scripts/calibration_targets.py``).
"""


NOT_OF_MODEL = ", none of this model"
"""What stands behind a fit to a few shapes of other models: their kernel may be another one."""
STAND_IN = " in place of one of "
"""What stands behind a fit of another framework than the software's, and before that one."""


OLD = "GPUs without matrix units"


class PriceError(NamedTuple):
    """What the errors are of; median and p90 in percent; of several cards, the worst median too."""

    of: str
    median_percent: float | None = None
    p90_percent: float | None = None
    worst_median_percent: float | None = None

    @property
    def text(self) -> str:
        """In words."""
        if self.median_percent is None:
            return f"{self._mark}{self.of}: too few shapes were measured to know the error"
        worst = self.worst_median_percent
        told = "" if worst is None else f" (worst card {worst:.2g} %)"
        middle = f"{self.median_percent:.2g} % in the median{told}"
        return f"{self._mark}{self.of}: off by {middle}, {self.p90_percent:.2g} % at p90"

    @property
    def _mark(self) -> str:
        return "warning: " if NOT_OF_MODEL in self.of or STAND_IN in self.of else ""


def price_error(
    profile: HardwareProfile,
    model: ModelSpec,
    *,
    serial: bool,
    framework: str | None = None,
    gpu: str = "",
) -> PriceError:
    """The error behind a run's expert prices.

    ``framework``: the software's, None where any fit serves it; ``gpu``: the card's name.

    A calibrated profile: of the fit's kernels on shapes that it had not seen. A datasheet: of cards
    that no fit had seen, the median over cards; under llama.cpp of its runs on other cards.
    """
    moe = next(layer.moe for layer in model.moe_layers if layer.moe)
    expert = moe.expert
    fits = fits_for(profile, expert, serial=serial) or fits_for(profile, expert)
    if not fits:
        medians, tails = zip(*LEFT_OUT.values(), strict=True)
        others = sorted({str(fit.dtype) for fit in _experts(profile)})
        why = f" for {expert.dtype} (fits are of {', '.join(others)})" if others else ""
        if profile.runs_ggml:
            return _of_ggml(f"datasheet prices{why}", gpu)
        if not profile.datasheet.like_measured:
            whose = f"{profile.datasheet.maker}'s GPUs" if profile.datasheet.maker else OLD
            return PriceError(f"warning: datasheet prices{why}; kernels of {whose}")
        of = f"datasheet prices{why}; expert kernels of GPUs that no fit had seen"
        return PriceError(of, median(medians), median(tails), max(medians))
    alone = fits[0].serial
    shapes = shapes_of(moe, np.ones(1, np.int64), alone=alone)
    fit, _ = choose(fits, shapes)
    label = fit.label + stands_in(fit, framework)
    of = f"fitted to {label}; expert kernels of shapes that the fit had not seen"
    if (error := fit.held_out) is not None:
        return PriceError(of, error.median_percent, error.p90_percent)
    whose = "" if distance(fit, shapes) == 0 else NOT_OF_MODEL
    return PriceError(f"fitted to {label}, {counted(fit.shapes, 'shape')}{whose}")


def _of_ggml(what: str, gpu: str) -> PriceError:
    """Of llama.cpp's kernels, by cards other than ``gpu``: the middle one, nine of ten cases."""
    medians = [100 * abs(expm1(one.middle)) for one in KERNELS if one.gpu != gpu]
    tail = 100 * (kernels_reach(gpu)[1] - 1)
    of = f"{what}; runs of llama.cpp on {counted(len(medians), 'other card')}"
    return PriceError(of, median(medians), tail, max(medians))


def stands_in(fit: Fit, framework: str | None) -> str:
    """Behind the name of a ``fit``: of which ``framework`` its kernel is not, though that runs."""
    own = framework is None or (fit.framework or "").lower() == framework
    return "" if own else f"{STAND_IN}{framework}"


def _experts(profile: HardwareProfile) -> tuple[ExpertFit, ...]:
    return profile.calibrated.experts if profile.calibrated else ()
