"""The price of every row of a measurement table, and what it rests on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moesim.calibrate.fitters import fitter_of
from moesim.calibrate.fitters.base import METHODS, Prices, datasheet
from moesim.calibrate.validate import flag, valid
from moesim.config.errors import InputError, Problem, nearest
from moesim.hardware.profile import HardwareProfile

SHOWN = 20


def price_table(
    profile: HardwareProfile, table: pd.DataFrame, method: str = "auto", name: str = "table"
) -> Prices:
    """The price of every row; InputError with the lines that have none.

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
    prices = np.zeros(len(clean))
    source = np.full(len(clean), "datasheet", object)
    outside = np.zeros(len(clean), bool)
    warm = flag(clean, "l2_warm", default=False)
    for op in sorted(set(ops)):
        mask = ops == op
        part = clean[mask].reset_index(drop=True) if not mask.all() else clean
        fitter = fitter_of(op)
        found = fitter.price(profile, part, method) if fitter else datasheet(profile, part, op)
        prices[mask], source[mask], outside[mask] = found
        if not op.startswith("attention"):
            tabled = mask & warm & (source != "datasheet")
            source[tabled] = "fitted"
    return Prices(prices, source, outside)
