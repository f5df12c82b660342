"""Grouped (and serial) expert networks: the formula of ``expert_kernel`` and measured ratios."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from moesim.calibrate.amounts import read
from moesim.calibrate.expert_fit import Fitted, families_of, fit_experts
from moesim.calibrate.expert_rows import tabulated, used_rows
from moesim.calibrate.fitters.base import (
    LEAST_POINTS,
    About,
    Explained,
    Fitter,
    Prices,
    datasheet,
    ranges_of,
)
from moesim.calibrate.held_out import LEAST_SHAPES, groups, halves, summary
from moesim.calibrate.ratios import ratios_of
from moesim.calibrate.validate import Mask, number
from moesim.calibrate.workload import ExpertShapes, chosen, expert_shapes, expert_work
from moesim.config.counted import counted
from moesim.hardware.calibrated import ExpertFit, HeldOut
from moesim.hardware.calibrated_experts import (
    EVEN,
    ShapeArrays,
    choose,
    fits_for,
    numbers_of,
    outside,
)
from moesim.hardware.expert_kernel import ExpertNumbers, terms
from moesim.hardware.fitted_waves import card_of
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.roofline import Floats, Ints

SHAPE = ("hidden", "inter", "experts", "top_k", "gated")
NAMES = {
    "start": "start of the layer's kernels",
    "activations": "activation traffic",
    "up_memory": "  reading of gate and up",
    "up_compute": "  computing of gate and up",
    "up_cache": "  L2 traffic of gate and up",
    "up": "gate and up: both, overlapped",
    "down_memory": "  reading of down",
    "down_compute": "  computing of down",
    "down_cache": "  L2 traffic of down",
    "down": "down: both, overlapped",
}


class Experts(Fitter):
    """Ten numbers a kernel and, for each measured shape, its ratios."""

    kind: ClassVar[str] = "experts"
    ops: ClassVar[tuple[str, ...]] = ("moe",)

    def fit(self, table: pd.DataFrame, profile: HardwareProfile, about: About) -> ExpertFit | str:
        """See ``Fitter``."""
        latency = number(table, "latency_ns")
        shapes, card = expert_shapes(table, profile), card_of(profile)
        mask, shape = used_rows(table, shapes, profile), groups(table, SHAPE)
        points, different = int(mask.sum()), len(np.unique(shape[mask]))
        if points < LEAST_POINTS or different < 1:
            return _too_few(about.label, points, different)
        fitted = fit_experts(shapes, latency, card, mask, families_of(about.kernel))
        ratio = latency / terms(fitted.numbers, expert_work(shapes, fitted.family), card).total
        assert about.dtype is not None, "an expert network has a format"
        return ExpertFit(
            **about._asdict(),
            points=points,
            shapes=different,
            held_out=_held_out(shapes, latency, mask, shape, fitted, profile),
            family=fitted.family,
            measured=ranges_of(table[mask], ("tokens", *SHAPE[:4])),
            ratios=ratios_of(table, ratio, tabulated(table, shapes, profile)),
            **_estimates(fitted, profile, about.dtype),
        )

    def price(self, profile: HardwareProfile, table: pd.DataFrame, method: str) -> Prices:
        """See ``Fitter``."""
        prices = datasheet(profile, table, "moe")
        if profile.calibrated is None or not profile.calibrated.experts:
            return prices
        dtypes = table["dtype"].to_numpy(object)
        named = "kernel_source" in table.columns
        kernels = table["kernel_source"].to_numpy(object) if named else np.full(len(table), None)
        shapes = expert_shapes(table, profile)
        keys = pd.DataFrame({"dtype": dtypes, "kernel": kernels, "serial": shapes.experts == 1})
        for places in keys.groupby(list(keys), dropna=False, sort=False).indices.values():
            dtype, kernel, serial = keys.iloc[places[0]]
            if fits := _candidates(profile, dtype, kernel, bool(serial)):
                mask = np.zeros(len(table), bool)
                mask[places] = True
                _price_fits(profile, fits, shapes, mask, method, prices)
        return prices

    def explain(self, profile: HardwareProfile, row: pd.DataFrame) -> Explained | None:
        """See ``Fitter``."""
        shapes = expert_shapes(row, profile)
        fits = fits_for(profile, str(row["dtype"].iloc[0]), serial=bool(shapes.experts[0] == 1))
        if not fits:
            return None
        which, _, _ = choose(fits, shape_arrays(shapes, np.ones(1, bool)))
        fit = fits[int(which[0])]
        found = terms(numbers_of(fit, profile), expert_work(shapes, fit.family), card_of(profile))
        parts = {text: float(getattr(found, name)[0]) for name, text in NAMES.items()}
        return Explained(parts, float(found.total[0]), fit)


def _too_few(label: str, points: int, shapes: int) -> str:
    return (
        f"experts {label}: {counted(points, 'usable point')} of {counted(shapes, 'shape')};"
        f" a fit needs {LEAST_POINTS}, and {LEAST_SHAPES} shapes for its held-out error. Missing:"
        " more token counts or shapes whose touched experts exceed the L2 cache"
    )


def _held_out(
    shapes: ExpertShapes,
    latency: Floats,
    mask: Mask,
    shape: Ints,
    fitted: Fitted,
    profile: HardwareProfile,
) -> HeldOut | None:
    if len(np.unique(shape[mask])) < LEAST_SHAPES:
        return None
    card, ratio = card_of(profile), np.full(len(latency), np.nan)
    for seen, unseen in halves(np.where(mask, shape, -1)):
        half = fit_experts(shapes, latency, card, seen & mask, (fitted.family,))
        left = unseen & mask
        work = chosen(expert_work(shapes, fitted.family), left)
        ratio[left] = terms(half.numbers, work, card).total / latency[left]
    return summary(ratio[mask], shape[mask])


def _estimates(fitted: Fitted, profile: HardwareProfile, dtype: str) -> dict[str, Any]:
    sheet = profile.datasheet
    units = {
        "bandwidth": sheet.memory_bandwidth.value,
        "activation_bandwidth": sheet.memory_bandwidth.value,
        "l2_bandwidth": sheet.memory_bandwidth.value,
        "compute": profile.peak(dtype),
        "l2": float(sheet.l2.value),
    }
    estimates: dict[str, Any] = {}
    for name in ExpertNumbers.names():
        unit, key = units.get(name, 1.0), "start" if name == "start_ns" else name
        low, high = (end * unit for end in fitted.intervals[name])
        value = getattr(fitted.numbers, name) * unit
        estimates[key] = {"value": read(key, value), "interval": [read(key, low), read(key, high)]}
    return estimates


def _candidates(
    profile: HardwareProfile, dtype: str, kernel: object, serial: bool
) -> tuple[ExpertFit, ...]:
    """The fits of the kernel where the row names one that was fitted, else all of the format."""
    fits = fits_for(profile, dtype, serial=serial)
    return tuple(fit for fit in fits if fit.kernel == kernel) or fits


def _price_fits(
    profile: HardwareProfile,
    fits: tuple[ExpertFit, ...],
    shapes: ExpertShapes,
    mask: Mask,
    method: str,
    prices: Prices,
) -> None:
    """Fill in the prices of the launches in ``mask``."""
    which, ratio, exact = choose(fits, shape_arrays(shapes, mask))
    places = np.flatnonzero(mask)
    even = ~shapes.listed & (shapes.distinct >= EVEN * np.minimum(shapes.experts, shapes.total))
    for index, fit in enumerate(fits):
        mine = which == index
        if not mine.any():
            continue
        at = places[mine]
        launched = np.zeros(len(mask), bool)
        launched[at] = True
        known = ~np.isnan(ratio[mine])
        prices.outside[at] = outside(fit, shape_arrays(shapes, launched)) & ~known
        if method == "datasheet":
            continue
        work = expert_work(shapes.where(launched), fit.family)
        time = terms(numbers_of(fit, profile), work, card_of(profile)).total
        tabled = known & (method != "fit")
        prices.price_ns[at] = np.where(tabled, time * np.nan_to_num(ratio[mine], nan=1.0), time)
        measured = np.where(exact[mine] & even[at], "measured", "interpolated")
        prices.price_source[at] = np.where(tabled, measured, "fitted")


def shape_arrays(shapes: ExpertShapes, mask: Mask) -> ShapeArrays:
    """The shapes of the launches in ``mask``."""
    return ShapeArrays(
        shapes.tokens[mask],
        shapes.hidden[mask],
        shapes.inter[mask],
        shapes.experts[mask],
        shapes.top_k[mask],
        shapes.gated[mask],
    )
