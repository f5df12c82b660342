"""One price, term by term."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from rich.table import Table

from moesim.calibrate.price import price_table, shape_arrays
from moesim.calibrate.validate import LINE, normalised
from moesim.calibrate.workload import expert_shapes, expert_work
from moesim.config.errors import InputError
from moesim.hardware.calibrated_experts import choose, fits_for, numbers_of
from moesim.hardware.expert_kernel import terms
from moesim.hardware.fitted_waves import card_of
from moesim.hardware.profile import HardwareProfile

NAMES = {
    "start": "start of the layer's kernels",
    "activations": "activation traffic",
    "up_memory": "  reading of gate and up",
    "up_compute": "  computing of gate and up",
    "up": "gate and up: both, overlapped",
    "down_memory": "  reading of down",
    "down_compute": "  computing of down",
    "down": "down: both, overlapped",
}


def explained(profile: HardwareProfile, values: Mapping[str, object], method: str) -> Table:
    """A table of the terms of one operation's price; InputError for a shape without one."""
    row = {name: _value(name, value) for name, value in values.items() if value is not None}
    frame = pd.DataFrame({name: [value] for name, value in row.items()})
    frame[LINE] = 1
    prices = price_table(profile, frame, method, "operation")
    source = str(prices.price_source[0])
    table = Table(title=f"{profile.name}: {row['op']}, {source}", caption_justify="left")
    table.add_column("term")
    table.add_column("us", justify="right")
    if row["op"] == "moe" and source != "datasheet":
        _terms(table, profile, frame, float(prices.price_ns[0]))
    table.add_row("price", f"{prices.price_ns[0] / 1e3:.3f}", style="bold")
    if prices.outside[0]:
        table.add_row("the shape lies outside what was measured", "")
    return table


def _value(name: str, value: object) -> object:
    if name != "rows":
        return value
    texts = str(value).replace(",", " ").split()
    if not all(text.isdecimal() for text in texts):
        raise InputError(f"--rows '{value}': write whole numbers, as in '4,2,1,1'")
    return [int(text) for text in texts]


def _terms(table: Table, profile: HardwareProfile, frame: pd.DataFrame, price: float) -> None:
    shapes = expert_shapes(normalised(frame), profile)
    fits = fits_for(profile, str(normalised(frame)["dtype"].iloc[0]))
    which, _, _ = choose(fits, shape_arrays(shapes, np.ones(1, bool)))
    fit = fits[int(which[0])]
    found = terms(numbers_of(fit, profile), expert_work(shapes, fit.family), card_of(profile))
    for name, text in NAMES.items():
        table.add_row(text, f"{getattr(found, name)[0] / 1e3:.3f}")
    formula = float(found.total[0])
    table.add_row("formula", f"{formula / 1e3:.3f}")
    if abs(price / formula - 1) > 1e-9:  # noqa: PLR2004 - equal but for rounding
        table.add_row(f"times measured over formula, {price / formula:.4f}", "")
    error = fit.held_out
    told = "no held-out error: too few shapes"
    if error is not None:
        told = f"unseen shapes: median {error.median_percent} %, p90 {error.p90_percent} %"
    table.caption = f"fit: {fit.label}, {fit.points} points; {told}; {profile.sources[fit.source]}"
