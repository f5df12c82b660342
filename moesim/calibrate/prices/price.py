"""The price of every row of a measurement table, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.calibrate.prices.operations import SHOWN, priced
from moesim.config.errors import InputError, Problem, nearest
from moesim.hardware.cost_model import Prices as CostModelPrices
from moesim.hardware.measurements.columns import SHAPES
from moesim.hardware.measurements.validate import Mask, flag, valid
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.provenance import SOURCES, Source
from moesim.hardware.profile import HardwareProfile

METHODS: Mapping[str, CostModelPrices] = {
    "auto": "auto",
    "table": "auto",
    "fit": "fit",
    "datasheet": "datasheet",
}
"""What each method takes of a profile."""
ATTENTION = [op for op in SHAPES if op.startswith("attention")]
NAMES = np.array([name if name != "outside" else "fitted" for name in SOURCES], object)
"""The names of sources; what is outside is a fitted price, and marked apart."""


class Prices(NamedTuple):
    """Whole nanoseconds, ``measured | interpolated | fitted | datasheet``, and whether the shape
    lies outside what was measured (false where nothing was); each [n].
    """

    price_ns: Ints
    price_source: NDArray[np.object_]
    outside: Mask


def price_table(
    profile: HardwareProfile, table: pd.DataFrame, method: str = "auto", name: str = "table"
) -> Prices:
    """The price of every row, that of the same operation in a run (``operations``); InputError with
    the lines that have none.

    ``auto``: the measured table where it has the shape, the fit elsewhere, the datasheet where
    there is no fit. ``table`` does the same; ``fit`` leaves measured tables out. But for attention
    a price is that of operands that come from memory, so no row with ``l2_warm`` is measured.
    """
    if method not in METHODS:
        raise InputError(f"--method '{method}': {nearest(method, METHODS)}")
    clean, findings = valid(table, timed=False)
    if findings:
        problems = [Problem(f"{name}:{line}", "", what) for line, what in findings[:SHOWN]]
        raise InputError(problems)
    ops = clean["op"].to_numpy(object)
    prices, source = np.zeros(len(clean), np.int64), np.zeros(len(clean), np.int64)
    for op in sorted(set(ops)):
        rows = np.flatnonzero(ops == op)
        part = clean.iloc[rows].reset_index(drop=True)
        for places, found in priced(profile, part, op, METHODS[method], name):
            prices[rows[places]], source[rows[places]] = found.price_ns, found.source
    names = NAMES[source]
    warm = flag(clean, "l2_warm", default=False) & (names != "datasheet")
    names[warm & ~np.isin(ops, ATTENTION)] = "fitted"
    return Prices(prices, names, source == Source.OUTSIDE)
