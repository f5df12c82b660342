"""From measurement tables to the calibrated part of a profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from moesim.calibrate.amounts import read
from moesim.calibrate.expert_fit import Fitted, fit_experts
from moesim.calibrate.held_out import LEAST_SHAPES, groups, halves, summary
from moesim.calibrate.product_fit import fit_products
from moesim.calibrate.ratios import ratios_of
from moesim.calibrate.validate import Mask, number
from moesim.calibrate.workload import (
    ExpertShapes,
    chosen,
    expert_shapes,
    expert_work,
)
from moesim.hardware.calibrated import Calibrated, ExpertFit, Fit, HeldOut, Measured, ProductFit
from moesim.hardware.expert_kernel import ExpertNumbers, terms
from moesim.hardware.fitted_waves import card_of
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.roofline import Floats

KERNEL = ("dtype", "kernel_source", "framework", "version", "device", "source")
SHAPE = ("hidden", "inter", "experts", "top_k", "gated")
LEAST_POINTS = 30
LARGEST_TOKENS = 4096
WARM = 1.05
"""Touched expert bytes up to this share of the L2 cache may have been read from it."""


@dataclass
class Fits:
    """The calibrated part, the text of its sources, and what could not be fitted and why."""

    calibrated: Calibrated
    sources: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line a fit: what it is of, and its errors on shapes that it had not seen."""
        parts = {"experts": self.calibrated.experts, "products": self.calibrated.products}
        return [
            f"{op}, {fit.label}: {fit.points} points, {_errors(fit)}"
            for op, fits in parts.items()
            for fit in fits
        ]


def fit_table(table: pd.DataFrame, profile: HardwareProfile) -> Fits:
    """Fit what a valid table has points for; most points first."""
    fits = Fits(Calibrated())
    experts: list[ExpertFit] = []
    for part, where in _kernels(table[table["op"] == "moe"]):
        source = _source_key(fits, profile.sources, where.get("source"))
        fitted = _fit_experts(part, profile, where, source)
        if isinstance(fitted, str):
            fits.missing.append(fitted)
        else:
            experts.append(fitted)
    products: list[ProductFit] = []
    for part, where in _kernels(table[table["op"] == "gemm"]):
        source = _source_key(fits, profile.sources, where.get("source"))
        product = fit_products(part, profile, where, source)
        if isinstance(product, str):
            fits.missing.append(product)
        else:
            products.append(product)
    experts.sort(key=lambda fit: (-fit.points, fit.label))
    products.sort(key=lambda fit: (-fit.points, fit.label))
    fits.calibrated = Calibrated(experts=tuple(experts), products=tuple(products))
    return fits


def _errors(fit: Fit) -> str:
    if (error := fit.held_out) is None:
        return f"{fit.shapes} shapes, too few for a held-out error"
    return (
        f"{fit.shapes} shapes, error on unseen shapes median {error.median_percent} %,"
        f" p90 {error.p90_percent} %, largest {error.largest_percent} %"
    )


def _kernels(table: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, dict[str, str]]]:
    """The rows of each kernel, and what the rows have in common."""
    names = [name for name in KERNEL if name in table.columns]
    for values, part in table.groupby(names, dropna=False, sort=True):
        texts = zip(names, map(_text, values), strict=True)
        where = {name: text for name, text in texts if text is not None}
        yield part.reset_index(drop=True), where


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def _source_key(fits: Fits, base: Mapping[str, str], text: str | None) -> str:
    """The key of a source's text: a new one where neither the fits nor the base have it."""
    wanted = f"fitted to {text or 'a measurement table that names no source'}"
    known = {**base, **fits.sources}
    key = next((key for key, told in fits.sources.items() if told == wanted), None)
    if key is None:
        key = next(f"fit-{n}" for n in count(1) if f"fit-{n}" not in known)
        fits.sources[key] = wanted
    return key


def _fit_experts(
    table: pd.DataFrame, profile: HardwareProfile, where: dict[str, str], source: str
) -> ExpertFit | str:
    label = "experts " + " ".join(where.get(name, "") for name in KERNEL[:4]).strip()
    latency = number(table, "latency_ns")
    shapes, card = expert_shapes(table, profile), card_of(profile)
    mask = used_rows(table, shapes, profile)
    shape = groups(table, SHAPE)
    points, different = int(mask.sum()), len(np.unique(shape[mask]))
    if points < LEAST_POINTS or different < 1:
        return _too_few(label, points, different)
    fitted = fit_experts(shapes, latency, card, mask)
    work = expert_work(shapes, fitted.family)
    ratio = latency / terms(fitted.numbers, work, card).total
    return ExpertFit(
        dtype=where["dtype"],
        kernel=where.get("kernel_source"),
        device=where.get("device"),
        framework=where.get("framework"),
        version=where.get("version"),
        source=source,
        points=points,
        shapes=different,
        held_out=_held_out(shapes, latency, mask, shape, fitted, profile),
        family=fitted.family,
        measured=_measured(table[mask]),
        ratios=ratios_of(table, ratio, _tabulated(table, shapes, profile)),
        **_estimates(fitted, profile, where["dtype"]),
    )


def _too_few(label: str, points: int, shapes: int) -> str:
    return (
        f"{label}: {points} usable points of {shapes} shapes; a fit needs {LEAST_POINTS}, and"
        f" {LEAST_SHAPES} shapes for its held-out error. Missing: more token counts or shapes whose"
        " touched experts exceed the L2 cache"
    )


def used_rows(table: pd.DataFrame, shapes: ExpertShapes, profile: HardwareProfile) -> Mask:
    """The rows to fit: unsliced, not warm in L2, up to 4096 tokens; evenly spread if there are
    enough of these, else those with listed rows too.
    """
    usable = _cold(table, shapes, profile) & (shapes.tokens <= LARGEST_TOKENS)
    if (usable & (number(table, "tensor_parallel", 1.0) == 1)).sum() >= LEAST_POINTS:
        usable &= number(table, "tensor_parallel", 1.0) == 1
    even = usable & ~shapes.listed
    return np.asarray(even if even.sum() >= LEAST_POINTS else usable)


def _cold(table: pd.DataFrame, shapes: ExpertShapes, profile: HardwareProfile) -> Mask:
    cold: Mask = shapes.touched_bytes > WARM * profile.datasheet.l2.value
    return np.asarray(cold & (number(table, "l2_warm", 0.0) == 0), bool)


def _tabulated(table: pd.DataFrame, shapes: ExpertShapes, profile: HardwareProfile) -> Mask:
    """The rows whose ratios are kept: cold ones, of any size; evenly spread where there are any."""
    cold = _cold(table, shapes, profile) & (number(table, "tensor_parallel", 1.0) == 1)
    even: Mask = cold & ~shapes.listed
    return even if even.any() else cold


def _held_out(
    shapes: ExpertShapes,
    latency: Floats,
    mask: Mask,
    shape: np.ndarray[Any, np.dtype[np.int64]],
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


def _measured(table: pd.DataFrame) -> Measured:
    names = ("tokens", "hidden", "inter", "experts", "top_k")
    return Measured(**{n: (int(table[n].min()), int(table[n].max())) for n in names})


def _estimates(fitted: Fitted, profile: HardwareProfile, dtype: str) -> dict[str, Any]:
    """The numbers in their units, with intervals."""
    sheet = profile.datasheet
    units = {
        "bandwidth": sheet.memory_bandwidth.value,
        "activation_bandwidth": sheet.memory_bandwidth.value,
        "compute": profile.peak(dtype),
        "l2": float(sheet.l2.value),
    }
    estimates: dict[str, Any] = {}
    for name in ExpertNumbers.names():
        unit = units.get(name, 1.0)
        value = getattr(fitted.numbers, name) * unit
        low, high = (end * unit for end in fitted.intervals[name])
        key = "start" if name == "start_ns" else name
        estimates[key] = {"value": read(key, value), "interval": [read(key, low), read(key, high)]}
    return estimates
