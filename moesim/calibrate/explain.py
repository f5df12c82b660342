"""One price, term by term."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from rich.table import Table

from moesim.calibrate.fitters import fitter_of
from moesim.calibrate.fitters.base import Explained
from moesim.calibrate.price import price_table
from moesim.calibrate.validate import LINE, normalised
from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.hardware.profile import HardwareProfile


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
    fitter = fitter_of(str(row["op"])) if source != "datasheet" else None
    if fitter and (found := fitter.explain(profile, normalised(frame))) is not None:
        _terms(table, profile, found, float(prices.price_ns[0]))
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


def _terms(table: Table, profile: HardwareProfile, found: Explained, price: float) -> None:
    for name, time in found.terms.items():
        table.add_row(name, f"{time / 1e3:.3f}")
    table.add_row("formula", f"{found.formula_ns / 1e3:.3f}")
    if abs(price / found.formula_ns - 1) > 1e-9:  # noqa: PLR2004 - equal but for rounding
        table.add_row(f"times measured over formula, {price / found.formula_ns:.4f}", "")
    error, fit = found.fit.held_out, found.fit
    told = "no held-out error: too few shapes"
    if error is not None:
        told = f"unseen shapes: median {error.median_percent} %, p90 {error.p90_percent} %"
    table.caption = (
        f"fit: {fit.label}, {counted(fit.points, 'point')}; {told}; {profile.sources[fit.source]}"
    )
