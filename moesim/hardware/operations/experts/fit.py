"""Grouped (and serial) expert networks: the formula of ``kernel.py`` and measured ratios."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from moesim.config.counted import counted
from moesim.hardware.card import card_of
from moesim.hardware.fitting.amounts import read
from moesim.hardware.fitting.fitter import (
    LEAST_POINTS,
    About,
    Fitter,
    ranges_of,
)
from moesim.hardware.fitting.held_out import LEAST_SHAPES, groups, halves, summary
from moesim.hardware.measurements.validate import Mask, number
from moesim.hardware.operations.experts.fit_numbers import Fitted, families_of, fit_experts
from moesim.hardware.operations.experts.fit_ratios import ratios_of
from moesim.hardware.operations.experts.fit_rows import tabulated, used_rows
from moesim.hardware.operations.experts.fit_shapes import (
    ExpertShapes,
    chosen,
    expert_shapes,
    expert_work,
)
from moesim.hardware.operations.experts.kernel import ExpertNumbers, terms
from moesim.hardware.operations.experts.tiles import MARLIN
from moesim.hardware.prices.arrays import Floats, Ints
from moesim.hardware.prices.calibrated import ExpertFit
from moesim.hardware.prices.left_out import HeldOut
from moesim.hardware.profile import HardwareProfile

SHAPE = ("hidden", "inter", "experts", "top_k", "gated")
MODEL = ("hidden", "experts", "top_k", "gated")
"""What slices of the same experts have in common: one shape, where slices are fitted too."""


class Experts(Fitter):
    """Ten numbers a kernel and, for each measured shape, its ratios."""

    kind: ClassVar[str] = "experts"
    ops: ClassVar[tuple[str, ...]] = ("moe",)
    apart: ClassVar[tuple[str, ...]] = ("dtype", "block_scaled")

    def fit(self, table: pd.DataFrame, profile: HardwareProfile, about: About) -> ExpertFit | str:
        """See ``Fitter``."""
        latency = number(table, "latency_ns")
        shapes, card = expert_shapes(table, profile), card_of(profile)
        families = families_of(about.kernel)
        mask = used_rows(table, shapes, profile, sliced=families == (MARLIN,))
        shape = groups(table, MODEL if families == (MARLIN,) else SHAPE)
        points, different = int(mask.sum()), len(np.unique(shape[mask]))
        if points < LEAST_POINTS or different < 1:
            return _too_few(about.label, points, different)
        fitted = fit_experts(shapes, latency, card, mask, families)
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
