"""What the fits of copies and of collectives have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moesim.hardware.fitting.amounts import read
from moesim.hardware.fitting.held_out import LEAST_SHAPES, groups, summary
from moesim.hardware.fitting.logarithmic import Found, Prior, fit_logarithms
from moesim.hardware.measurements.validate import Mask, number
from moesim.hardware.prices.arrays import Floats, Ints
from moesim.hardware.prices.calibrated import SizeRatios
from moesim.hardware.prices.left_out import HeldOut
from moesim.hardware.prices.transfer_curve import Known, rising, through

Formula = Callable[[Floats, pd.DataFrame], Floats]
"""Nanoseconds of the numbers in their order and of a table's rows."""
SCALE = 0.03
DIGITS = 4
SHIFTS = (0.0, 2.5, -2.5)
"""Of the fill's half, in logarithms: the knee may be anywhere."""


def fit_transfers(
    formula: Formula, table: pd.DataFrame, prior: Prior, half: int, mask: Mask | None = None
) -> Found:
    """The numbers of the rows in ``mask``; ``half`` is the place of the fill's half."""
    part = table if mask is None else table[mask]
    starts = [np.eye(len(prior.center))[half] * shift for shift in SHIFTS]
    latency = number(part, "latency_ns")
    return fit_logarithms(lambda found: formula(found, part), latency, prior, SCALE, starts)


class Errors(NamedTuple):
    """On sizes left out: of the formula alone, and of what it says between the sizes seen."""

    held_out: HeldOut | None = None
    between: HeldOut | None = None


def held_out(formula: Formula, table: pd.DataFrame, prior: Prior, half: int) -> Errors:
    """The errors on every other size, fitted to the sizes between; both ways round."""
    size, latency = groups(table, ("bytes",)), number(table, "latency_ns")
    if len(np.unique(size)) < LEAST_SHAPES:
        return Errors()
    alone, ratio = np.ones(len(table)), np.ones(len(table))
    for seen, unseen in alternate(size):
        numbers = fit_transfers(formula, table, prior, half, seen).numbers
        price = formula(numbers, table)
        alone[unseen] = (price / latency)[unseen]
        ratio[unseen] = (between(table, price, seen) / latency)[unseen]
    return Errors(summary(alone, size), summary(ratio, size))


def between(table: pd.DataFrame, formula_ns: Floats, seen: Mask) -> Floats:
    """The prices of all rows by the formula and the times of the rows ``seen``, as a run has them
    (``transfer_curve``).
    """
    gpus, price = number(table, "gpus", 1.0), formula_ns.copy()
    rows = pd.DataFrame(
        {"at": number(table, "bytes"), "formula": formula_ns, "time": number(table, "latency_ns")}
    )
    for count in np.unique(gpus[seen]):
        mine = gpus == count
        medians = rows[mine & seen].groupby("at").median().reset_index()
        sizes, formula, times = medians.to_numpy(np.float64).T
        known = Known(sizes, formula, rising(times))
        price[mine] = through(rows["at"].to_numpy()[mine], formula_ns[mine], known)
    return price


def alternate(size: Ints) -> Iterator[tuple[Mask, Mask]]:
    """(fit on, test on): every other size, both ways round."""
    even = size % 2 == 0
    yield even, ~even
    yield ~even, even


def size_ratios(table: pd.DataFrame, formula_ns: Floats) -> tuple[SizeRatios, ...]:
    """Measured over formula by size for each number of GPUs; medians where measured again."""
    part = pd.DataFrame(
        {
            "gpus": number(table, "gpus", 1.0).astype(np.int64),
            "bytes": number(table, "bytes").astype(np.int64),
            "ratio": number(table, "latency_ns") / formula_ns,
        }
    )
    medians = part.groupby(["gpus", "bytes"], sort=True)["ratio"].median().reset_index()
    return tuple(
        SizeRatios(
            gpus=int(str(gpus)),
            bytes=tuple(int(size) for size in group["bytes"]),
            ratio=tuple(round(float(value), DIGITS) for value in group["ratio"]),
        )
        for gpus, group in medians.groupby("gpus", sort=True)
    )


def estimates(names: tuple[str, ...], found: Found) -> dict[str, Any]:
    """The numbers with their intervals as a profile has them."""
    return {
        name: {"value": read(name, value), "interval": [read(name, end) for end in ends]}
        for name, value, ends in zip(names, found.numbers, found.ends.T.tolist(), strict=True)
    }
