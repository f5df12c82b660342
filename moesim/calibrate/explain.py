"""One price, term by term."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from rich.table import Table

from moesim.calibrate.datasheet_prices import Term, Terms
from moesim.calibrate.fitters import fitter_of
from moesim.calibrate.fitters.base import Explained, datasheet_terms
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
    if source == "datasheet":
        _roofline(table, datasheet_terms(profile, normalised(frame), str(row["op"])))
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


def _roofline(table: Table, terms: Terms) -> None:
    """Starts, reads, products and moves, each with its amount and rate, and what binds."""
    table.add_column("amount", justify="right")
    table.add_column("at")
    table.add_row("starts and latency", f"{float(np.ravel(terms.start_ns)[0]) / 1e3:.3f}")
    named = {"reads": terms.reads, "products": terms.products, "moves": terms.moves}
    for name, term in named.items():
        if term is not None:
            table.add_row(name, *_amounts(term, "FLOP" if name == "products" else "B"))
    if terms.reads is not None and terms.products is not None:
        memory, compute = float(terms.reads.time_ns[0]), float(terms.products.time_ns[0])
        bound = "memory (reads)" if memory >= compute else "compute (products)"
        table.add_row("bound by", "", bound, "the longer of reads and products counts")
        table.caption = "FLOPs of whole tiles: padding is multiplied too"


def _amounts(term: Term, unit: str) -> tuple[str, str, str]:
    """Microseconds, the amount, and the rate with the share of the peak that it is."""
    peak = float(np.ravel(term.peak)[0])
    rate = f"{_scaled(peak * term.fraction)}{unit}/s"
    share = f", {100 * term.fraction:.3g} % of {_scaled(peak)}{unit}/s" if term.fraction < 1 else ""
    return f"{term.time_ns[0] / 1e3:.3f}", f"{_scaled(float(term.amount[0]))}{unit}", rate + share


def _scaled(value: float) -> str:
    """With a decimal prefix, before a unit."""
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {prefix}"
    return f"{value:.4g} "


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
