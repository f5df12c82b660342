"""The price of every row of a measurement table, and what it rests on."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.calibrate.datasheet_prices import PRICES
from moesim.calibrate.product_fit import prices as product_prices
from moesim.calibrate.validate import Mask, number, valid
from moesim.calibrate.workload import ExpertShapes, chosen, expert_shapes, expert_work
from moesim.config.errors import InputError, Problem, nearest
from moesim.hardware.calibrated import ExpertFit
from moesim.hardware.calibrated_experts import (
    SAME_UNITS,
    ShapeArrays,
    choose,
    fits_for,
    numbers_of,
    outside,
    product_numbers,
)
from moesim.hardware.expert_kernel import terms
from moesim.hardware.fitted_waves import card_of
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.roofline import Floats

Method = Literal["auto", "table", "fit", "datasheet"]
METHODS: tuple[str, ...] = get_args(Method)
SHOWN = 20
EVEN = 0.75
"""Share of the reachable experts from which on a launch counts as evenly spread."""
Texts = NDArray[np.object_]


class Prices(NamedTuple):
    """Nanoseconds, ``measured | interpolated | fitted | datasheet``, and whether the shape lies
    outside what was measured (false where nothing was); each [n].
    """

    price_ns: Floats
    price_source: Texts
    outside: Mask


def price_table(
    profile: HardwareProfile, table: pd.DataFrame, method: str = "auto", name: str = "table"
) -> Prices:
    """The price of every row; InputError with the lines that have none.

    ``auto``: the measured table where it has the shape, the fit elsewhere, the datasheet where
    there is no fit. ``table`` does the same; ``fit`` leaves measured tables out.
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
    beyond = np.zeros(len(clean), bool)
    for op in sorted(set(ops)):
        mask = ops == op
        part = clean[mask] if not mask.all() else clean
        price = {"moe": _experts, "gemm": _products}.get(op)
        found = price(profile, part, method) if price else _datasheet(profile, part, op)
        prices[mask], source[mask], beyond[mask] = found
    return Prices(prices, source, beyond)


def _datasheet(profile: HardwareProfile, table: pd.DataFrame, op: str) -> Prices:
    price = PRICES[op](table, profile)
    none = np.zeros(len(table), bool)
    return Prices(price, np.full(len(table), "datasheet", object), none)


def _experts(profile: HardwareProfile, table: pd.DataFrame, method: str) -> Prices:
    prices = _datasheet(profile, table, "moe")
    if profile.calibrated is None or not profile.calibrated.experts:
        return prices
    dtypes = table["dtype"].to_numpy(object)
    named = "kernel_source" in table.columns
    kernels = table["kernel_source"].to_numpy(object) if named else np.full(len(table), None)
    pairs = pd.Series(list(zip(dtypes, kernels, strict=True)), dtype=object)
    shapes = expert_shapes(table, profile)
    for pair in pairs.unique():
        fits = _candidates(profile, *pair)
        if fits:
            _price_fits(profile, fits, shapes, (pairs == pair).to_numpy(bool), method, prices)
    return prices


def _products(profile: HardwareProfile, table: pd.DataFrame, method: str) -> Prices:
    prices = _datasheet(profile, table, "gemm")
    fits = profile.calibrated.products if profile.calibrated else ()
    dtypes = table["dtype"].to_numpy(object)
    shape = [number(table, name) for name in ("m", "n", "k")]
    for dtype in set(dtypes):
        names = (dtype, SAME_UNITS.get(dtype))
        fit = next((fit for name in names for fit in fits if fit.dtype == name), None)
        if fit is None:
            continue
        mine = dtypes == dtype
        for values, (least, largest) in zip(shape, dict(fit.measured).values(), strict=True):
            prices.outside[mine] |= (values[mine] < least) | (values[mine] > largest)
        if method != "datasheet":
            numbers = product_numbers(fit, profile)
            time = product_prices(numbers, table[mine], profile, card_of(profile))
            prices.price_ns[mine], prices.price_source[mine] = time, "fitted"
    return prices


def _candidates(profile: HardwareProfile, dtype: str, kernel: object) -> tuple[ExpertFit, ...]:
    """The fits of the kernel where the row names one that was fitted, else all of the format."""
    fits = fits_for(profile, dtype)
    return tuple(fit for fit in fits if fit.kernel == kernel) or fits


def _price_fits(
    profile: HardwareProfile,
    fits: tuple[ExpertFit, ...],
    shapes: ExpertShapes,
    mask: Mask,
    method: str,
    prices: Prices,
) -> None:
    """Fill in the prices of the launches in ``mask``."""
    arrays = shape_arrays(shapes, mask)
    which, ratio, exact = choose(fits, arrays)
    places = np.flatnonzero(mask)
    even = ~shapes.listed & (shapes.distinct >= EVEN * np.minimum(shapes.experts, shapes.total))
    for index, fit in enumerate(fits):
        mine = which == index
        if not mine.any():
            continue
        at = places[mine]
        launched = _mask(at, len(mask))
        beyond = outside(fit, shape_arrays(shapes, launched))
        known = ~np.isnan(ratio[mine])
        prices.outside[at] = beyond & ~known
        if method == "datasheet":
            continue
        work = chosen(expert_work(shapes, fit.family), launched)
        time = terms(numbers_of(fit, profile), work, card_of(profile)).total
        tabled = known & (method != "fit")
        prices.price_ns[at] = np.where(tabled, time * np.nan_to_num(ratio[mine], nan=1.0), time)
        measured = np.where(exact[mine] & even[at], "measured", "interpolated")
        prices.price_source[at] = np.where(tabled, measured, "fitted")


def shape_arrays(shapes: ExpertShapes, mask: Mask) -> ShapeArrays:
    """The shapes of the launches in ``mask``."""
    return ShapeArrays(
        shapes.tokens[mask],
        shapes.hidden[mask],
        shapes.inter[mask],
        shapes.experts[mask],
        shapes.top_k[mask],
        shapes.gated[mask],
    )


def _mask(places: NDArray[np.int64], size: int) -> Mask:
    mask = np.zeros(size, bool)
    mask[places] = True
    return mask
