"""The price of every row of a measurement table, and what it rests on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.calibrate.prices.arguments import Asking, shape_of
from moesim.calibrate.prices.asked import ASKED
from moesim.calibrate.prices.of_run import One, alike, is_of_run, of_machine, prices_of
from moesim.calibrate.prices.operations import SHOWN, priced
from moesim.config.errors import InputError, Problem, nearest
from moesim.hardware.cost_model import Prices as CostModelPrices
from moesim.hardware.measurements.columns import SHAPES
from moesim.hardware.measurements.validate import LINE, Mask, flag, valid
from moesim.hardware.prices.arrays import Floats, Ints
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


_Shapes = dict[int, list[Any]]
"""What operations are asked for, by the number of their row."""


class Prices(NamedTuple):
    """Whole nanoseconds, ``measured | interpolated | fitted | datasheet``, and whether the shape
    lies outside what was measured (false where nothing was); of an operation of a run what most of
    it rests on, and whether any of it is outside. Between ``low_ns`` and ``high_ns`` the real time
    lies in 90 % of all cases, NaN where that is not known; each [n].
    """

    price_ns: Ints
    price_source: NDArray[np.object_]
    outside: Mask
    low_ns: Floats
    high_ns: Floats


def price_table(
    profile: HardwareProfile,
    table: pd.DataFrame,
    method: str = "auto",
    name: str = "table",
    asking: Asking | None = None,
) -> Prices:
    """The price of every row, that of the same operation in a run (``operations``); InputError with
    the lines that have none.

    ``auto``: the measured table where it has the shape, the fit elsewhere, the datasheet where
    there is no fit. ``table`` does the same; ``fit`` leaves measured tables out. But for attention
    a price is that of operands that come from memory, so no row with ``l2_warm`` is measured.
    ``asking``: whose operations of a run rows may name, by default those of the machine alone.
    """
    check_method(method)
    asking = asking or of_machine(profile, METHODS[method])
    _check_names(table, name)
    ours = np.array([is_of_run(op, asking) for op in table["op"]], bool)
    of_run, problems = _tried(partial(_of_run, table[ours], name, asking))
    shapes, more = _tried(partial(_of_shapes, profile, table[~ours], method, name, asking))
    if of_run is None or shapes is None:
        raise InputError([*problems, *more])
    return Prices(*(_both(ours, *pair) for pair in zip(of_run, shapes, strict=True)))


def _tried(price: Callable[[], Prices]) -> tuple[Prices | None, tuple[Problem, ...]]:
    """The prices, or what is wrong with their rows."""
    try:
        return price(), ()
    except InputError as error:
        return None, error.problems


def check_method(method: str) -> None:
    """An InputError where ``method`` is none."""
    if method not in METHODS:
        raise InputError(f"--method '{method}': {nearest(method, METHODS)}")


def _check_names(table: pd.DataFrame, name: str) -> None:
    """An InputError with the lines of what is neither an op of a table nor an operation of runs."""
    known = {*SHAPES, *ASKED}
    problems = [
        Problem(f"{name}:{line}", "", f"'{op}' is no op; {nearest(str(op), known)}")
        for line, op in zip(table[LINE], table["op"], strict=True)
        if op not in known and pd.notna(op)
    ]
    if problems:
        raise InputError(problems[:SHOWN])


def _both(ours: Mask, own: Any, others: Any) -> Any:
    """``own`` where ``ours`` is true, and ``others`` elsewhere."""
    found = np.empty(len(ours), np.result_type(own, others))
    found[ours], found[~ours] = own, others
    return found


def _of_run(table: pd.DataFrame, name: str, asking: Asking) -> Prices:
    """Of rows that name an operation of a run, those that are alike at once."""
    lines, wrong = list(table[LINE]), dict[int, InputError]()
    groups = defaultdict[tuple[Any, ...], _Shapes](dict)
    for number, cells in enumerate(table.to_dict("records")):
        row = {str(column): cell for column, cell in cells.items()}
        try:
            shape = shape_of(asking, row)
        except InputError as error:
            wrong[number] = error
        else:
            groups[alike(asking, str(row["op"]), shape, number)][number] = shape
    known: dict[int, One] = {}
    for (kind, *_), shapes in groups.items():
        known |= _at_once(asking, kind, shapes, wrong)
    problems = [
        Problem(f"{name}:{lines[number]}", "", str(one))
        for number, error in sorted(wrong.items())
        for one in error.problems
    ]
    if problems:
        raise InputError(problems[:SHOWN])
    found = [one for _, one in sorted(known.items())]
    price, low, high = (np.array([one[i] for one in found], float) for i in (0, 2, 3))
    source = np.array([one.source for one in found], np.int64)
    outside = np.array([one.by_source[Source.OUTSIDE] > 0 for one in found], bool)
    return Prices(price.astype(np.int64), NAMES[source], outside, low, high)


def _at_once(
    asking: Asking, kind: str, shapes: _Shapes, wrong: dict[int, InputError]
) -> dict[int, One]:
    """The prices of ``shapes`` that are alike, by the number of their row; of one that has none
    what is ``wrong``.
    """
    try:
        return dict(zip(shapes, prices_of(asking, kind, list(shapes.values())), strict=True))
    except InputError as error:
        if len(shapes) == 1:
            wrong[next(iter(shapes))] = error
            return {}
    found: dict[int, One] = {}
    for number, shape in shapes.items():
        found |= _at_once(asking, kind, {number: shape}, wrong)
    return found


def _of_shapes(
    profile: HardwareProfile, table: pd.DataFrame, method: str, name: str, asking: Asking
) -> Prices:
    """Of rows that say their shape."""
    clean, findings = valid(table, timed=False)
    if findings:
        problems = [Problem(f"{name}:{line}", "", what) for line, what in findings[:SHOWN]]
        raise InputError(problems)
    ops = clean["op"].to_numpy(object)
    prices, source = np.zeros(len(clean), np.int64), np.zeros(len(clean), np.int64)
    low, high = np.zeros((2, len(clean)))
    for op in sorted(set(ops)):
        rows = np.flatnonzero(ops == op)
        part = clean.iloc[rows].reset_index(drop=True)
        warm = flag(part, "l2_warm", default=False) & (op not in ATTENTION)
        for places, found in priced(profile, part, op, METHODS[method], name):
            here, codes = rows[places], found.source
            known = warm[places] & (codes != Source.DATASHEET) & (codes != Source.OUTSIDE)
            source[here] = codes = np.where(known, Source.FITTED, codes)
            prices[here] = found.price_ns
            low[here], high[here] = found.range_of(codes, asking.machine)
    return Prices(prices, NAMES[source], source == Source.OUTSIDE, low, high)
