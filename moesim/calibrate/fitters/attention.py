"""Attention: the numbers of ``attention_kernel``, for whole prompts and for single queries."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from moesim.calibrate.amounts import read
from moesim.calibrate.attention_fit import (
    RANGES,
    AttentionTable,
    best_layout,
    fitted,
    left_out,
    shapes,
    usable,
)
from moesim.calibrate.fitters.base import (
    LEAST_POINTS,
    About,
    Explained,
    Fitter,
    Prices,
    beyond,
    datasheet,
    ranges_of,
)
from moesim.calibrate.held_out import LEAST_SHAPES
from moesim.calibrate.logarithmic import Found
from moesim.config.counted import counted
from moesim.hardware.attention_kernel import AttentionTerms, attention_terms
from moesim.hardware.calibrated import AttentionFit
from moesim.hardware.calibrated_attention import (
    DECODE,
    PREFILL,
    attention_fit_for,
    attention_numbers,
    attention_units,
)
from moesim.hardware.fitted_waves import card_of
from moesim.hardware.profile import HardwareProfile

MOST_WRONG_PERCENT = 25
"""A kernel that does something else than the formula; its times would mislead."""


class Attention(Fitter):
    """Rows of one kernel; a prompt of one token is a decode and is left out of prompts."""

    kind: ClassVar[str] = "attention"
    ops: ClassVar[tuple[str, ...]] = (PREFILL, DECODE)

    def fit(
        self, table: pd.DataFrame, profile: HardwareProfile, about: About
    ) -> AttentionFit | str:
        """See ``Fitter``. The layout is the one with the least cost."""
        rows = usable(table, profile)
        told, count = f"{rows.op} {about.label}", len(np.unique(rows.shape))
        if len(rows.rows) < LEAST_POINTS or count < LEAST_SHAPES:
            return (
                f"{told}: {counted(len(rows.rows), 'usable point')} of {counted(count, 'shape')};"
                f" a fit needs {LEAST_POINTS} of {LEAST_SHAPES}"
            )
        layout = best_layout(rows)
        error = left_out(rows, layout)
        if error.median_percent > MOST_WRONG_PERCENT:
            return (
                f"{told}: the formula misses unseen shapes by {error.median_percent} % in the"
                f" median; a fit may by {MOST_WRONG_PERCENT} %"
            )
        return AttentionFit(
            **about._asdict(),
            op=rows.op,
            layout=layout,
            points=error.points,
            shapes=error.shapes,
            held_out=error,
            measured=ranges_of(rows.rows, RANGES),
            **_estimates(fitted(rows, layout), rows.names(layout), rows, about.dtype),
        )

    def price(self, profile: HardwareProfile, table: pd.DataFrame, method: str) -> Prices:
        """See ``Fitter``."""
        op = str(table["op"].iloc[0])
        found = datasheet(profile, table, op)
        kinds: Any = table.groupby(["dtype", "head_dim"], sort=True).indices
        for (dtype, head_dim), places in kinds.items():
            if (fit := attention_fit_for(profile, op, str(dtype), float(head_dim))) is None:
                continue
            part = table.iloc[places]
            found.outside[places] = beyond(fit.measured, part)
            if method != "datasheet":
                found.price_ns[places] = _fitted(profile, fit, part).total
                found.price_source[places] = "fitted"
        return found

    def explain(self, profile: HardwareProfile, row: pd.DataFrame) -> Explained | None:
        """See ``Fitter``."""
        op, dtype = (str(row[name].iloc[0]) for name in ("op", "dtype"))
        fit = attention_fit_for(profile, op, dtype, float(row["head_dim"].iloc[0]))
        if fit is None:
            return None
        terms = _fitted(profile, fit, row)
        parts = {
            "start": terms.start,
            "splitting and merging": terms.split,
            "appending to the cache": terms.write,
            "memory (overlaps)": terms.memory,
            "busiest multiprocessor (overlaps)": terms.busy,
        }
        told = {name: float(time[0]) for name, time in parts.items()}
        return Explained(told, float(terms.total[0]), fit)


def _fitted(profile: HardwareProfile, fit: AttentionFit, table: pd.DataFrame) -> AttentionTerms:
    numbers, card = attention_numbers(fit, profile), card_of(profile)
    return attention_terms(numbers, fit.layout, shapes(table, profile), card)


def _estimates(
    found: Found, names: tuple[str, ...], table: AttentionTable, dtype: str | None
) -> dict[str, Any]:
    assert dtype is not None, "attention has a format"
    units, estimates = attention_units(table.profile, dtype), {}
    for name, value, ends in zip(names, found.numbers, found.ends.T, strict=True):
        key, unit = name.removesuffix("_ns"), units.get(name, 1.0)
        interval = [read(key, end * unit) for end in ends]
        estimates[key] = {"value": read(key, value * unit), "interval": interval}
    return estimates
