"""From measurement tables to the calibrated part of a profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pandas as pd

from moesim.config.counted import counted
from moesim.hardware.fitting import registry
from moesim.hardware.fitting.fitter import About, Fitter
from moesim.hardware.prices.calibrated import Calibrated, Fit
from moesim.hardware.profile import HardwareProfile

KERNEL = ("kernel_source", "framework", "version", "device", "source")
"""Rows that differ in one of these get fits of their own."""
OTHERS = "others"
"""The field of the fits of packages."""


@dataclass
class Fits:
    """The calibrated part, the text of its sources, and what could not be fitted and why."""

    calibrated: Calibrated
    sources: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line a fit: what it is of, and its errors on shapes that it had not seen."""
        return [
            f"{getattr(fit, 'op', kind)}, {fit.label}: {counted(fit.points, 'point')},"
            f" {_errors(fit)}"
            for kind, fits in self.by_kind().items()
            for fit in fits
        ]

    def by_kind(self) -> dict[str, tuple[Fit, ...]]:
        """The fits by the field of the calibrated part."""
        return {kind: getattr(self.calibrated, kind) for kind in Calibrated.model_fields}


def fit_table(table: pd.DataFrame, profile: HardwareProfile) -> Fits:
    """Fit what a valid table has points for; most points first, then the framework of most rows."""
    fits = Fits(Calibrated())
    named = table["framework"] if "framework" in table.columns else pd.Series(dtype=object)
    rows_of = named.value_counts()
    parts: dict[str, tuple[Any, ...]] = {OTHERS: ()}
    for kind, fitter in registry.components.items():
        found: list[Fit] = []
        rows = table[table["op"].isin(fitter.ops)]
        for part, about in _kernels(rows, fitter, fits, profile.sources):
            fitted = fitter().fit(part, profile, about)
            if isinstance(fitted, str):
                fits.missing.append(fitted)
            else:
                found.append(fitted)
        found.sort(key=lambda fit: (-fit.points, -int(rows_of.get(fit.framework, 0)), fit.label))
        ordered = tuple(found)
        if kind in Calibrated.model_fields:
            parts[kind] = ordered
        else:
            parts[OTHERS] += ordered
    fits.calibrated = Calibrated(**parts)
    return fits


def _errors(fit: Fit) -> str:
    if (error := fit.unseen) is None:
        return f"{counted(fit.shapes, 'shape')}, too few for a held-out error"
    return (
        f"{counted(fit.shapes, 'shape')}, error on unseen shapes median {error.median_percent} %,"
        f" p90 {error.p90_percent} %, largest {error.largest_percent} %"
    )


def _kernels(
    table: pd.DataFrame, fitter: type[Fitter], fits: Fits, known: Mapping[str, str]
) -> Iterator[tuple[pd.DataFrame, About]]:
    """The rows of each kernel, and what the rows have in common."""
    apart = (*fitter.apart, *KERNEL)
    if table.empty:
        return
    names = ["op", *(name for name in dict.fromkeys(apart) if name in table.columns)]
    for values, part in table.groupby(names, dropna=False, sort=True):
        where = dict(zip(names, map(_text, values), strict=True))
        about = About(
            dtype=where.get("dtype"),
            kernel=where.get("kernel_source"),
            device=where.get("device"),
            framework=where.get("framework"),
            version=where.get("version"),
            source=_source_key(fits, known, where.get("source")),
            block_scaled=_flag(where.get("block_scaled")),
        )
        yield part.reset_index(drop=True), about


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def _flag(text: str | None) -> bool | None:
    return None if text is None else text == str(True)


def _source_key(fits: Fits, base: Mapping[str, str], text: str | None) -> str:
    """The key of a source's text: a new one where neither the fits nor the base have it."""
    wanted = f"fitted to {text or 'a measurement table that names no source'}"
    known = {**base, **fits.sources}
    key = next((key for key, told in fits.sources.items() if told == wanted), None)
    if key is None:
        key = next(f"fit-{n}" for n in count(1) if f"fit-{n}" not in known)
        fits.sources[key] = wanted
    return key
