"""Attention: the numbers of ``kernel.py``, for whole prompts and for single queries, and of these
measured ratios.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from moesim.config.counted import counted
from moesim.hardware.fitting.amounts import read
from moesim.hardware.fitting.fitter import (
    LEAST_POINTS,
    About,
    Fitter,
    ranges_of,
)
from moesim.hardware.fitting.held_out import LEAST_SHAPES, halves
from moesim.hardware.fitting.logarithmic import Found
from moesim.hardware.operations.attention.calibrated import (
    DECODE,
    PREFILL,
    attention_units,
)
from moesim.hardware.operations.attention.fit_numbers import (
    RANGES,
    AttentionTable,
    best_layout,
    errors_of,
    fitted,
    half_of,
    usable,
)
from moesim.hardware.operations.attention.fit_table import decode_table
from moesim.hardware.prices.calibrated import AttentionFit
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
        halved = [half_of(rows, layout, seen) for seen, _ in halves(rows.shape)]
        error = errors_of(rows, halved)
        if error.median_percent > MOST_WRONG_PERCENT:
            return (
                f"{told}: the formula misses unseen shapes by {error.median_percent} % in the"
                f" median; a fit may by {MOST_WRONG_PERCENT} %"
            )
        found = fitted(rows, layout)
        return AttentionFit(
            **about._asdict(),
            op=rows.op,
            layout=layout,
            points=error.points,
            shapes=error.shapes,
            held_out=error,
            measured=ranges_of(rows.rows, RANGES),
            **_estimates(found, rows.names(layout), rows, about.dtype),
            table=decode_table(rows, layout, found.numbers, halved, error),
        )


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
