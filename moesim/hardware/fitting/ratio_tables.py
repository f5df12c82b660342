"""Making a table of measured over fitted times, and how wrong its interpolation is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moesim.hardware.fitting.held_out import groups
from moesim.hardware.measurements.validate import Mask, number
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.left_out import HeldOut
from moesim.hardware.prices.ratio_table import Beyond, RatioTable, interpolated, pack, parts_of

FEWEST = 4
"""Shapes below which a place of the grid is filled from its neighbours on the same line."""


WORTH = 0.8
"""Of the formula's error on unseen shapes, what a table's is below; else it only repeats noise."""


FALL = 0.1
"""Share by which a time may be above that of more work; beyond, it is taken as a disturbance."""


class Columns(NamedTuple):
    """What a table's shapes are, with a scale of each logarithm, and the columns of its grid."""

    shape: Mapping[str, float]
    grid: tuple[str, ...]
    beyond: Beyond | None = None


class Tensor(NamedTuple):
    """Shapes [g, columns], values of each grid column, and logarithms of ratios [g, *grid], nan
    where nothing was measured.
    """

    shapes: Floats
    axes: tuple[Floats, ...]
    logs: Floats


def ratio_table(
    table: pd.DataFrame,
    formula_ns: Floats,
    columns: Columns,
    errors: Mapping[str, HeldOut],
    steps: Floats | float = 1.0,
) -> RatioTable:
    """The table of the rows' times over those of the formula [n]. ``steps``: over what of it rises
    with work, where some does not: that is no disturbance.
    """
    measured = tensor_of(table, np.log(number(table, "latency_ns") / steps), columns)
    logs = steady(measured.logs)
    known = ~np.isnan(logs) & (logs == measured.logs)
    formula = tensor_of(table, np.log(formula_ns / steps), columns)
    tensor = measured._replace(logs=logs - formula.logs)
    return RatioTable(
        shape=dict(columns.shape),
        beyond=columns.beyond,
        grid={
            name: tuple(int(value) for value in axis)
            for name, axis in zip(columns.grid, tensor.axes, strict=True)
        },
        errors=dict(errors),
        packed=pack(tensor.shapes, filled(tensor, columns), known),
    )


def steady(logs: Floats) -> Floats:
    """Logarithms of times [g, *grid] without those far above what more work took."""
    least = logs
    for axis in range(1, logs.ndim):
        least = np.flip(np.fmin.accumulate(np.flip(least, axis), axis), axis)
    return np.asarray(np.where(np.isnan(logs), np.nan, np.minimum(logs, least + np.log1p(FALL))))


def tensor_of(table: pd.DataFrame, logs: Floats, columns: Columns) -> Tensor:
    """The rows' logarithms on their shapes and grid; medians where measured again."""
    shape, names = groups(table, tuple(columns.shape)), list(columns.grid)
    frame = pd.DataFrame({name: number(table, name) for name in (*columns.shape, *names)})
    shapes = frame[list(columns.shape)].groupby(shape).first().to_numpy(np.float64)
    axes, places = [], []
    for name in names:
        axis, place = np.unique(frame[name].to_numpy(), return_inverse=True)
        axes.append(axis)
        places.append(place)
    medians = pd.Series(logs).groupby([shape, *places]).median()
    values = np.full((len(shapes), *map(len, axes)), np.nan)
    levels = [medians.index.get_level_values(level) for level in range(len(names) + 1)]
    values[tuple(levels)] = medians.to_numpy()
    return Tensor(shapes, tuple(axes), values)


def filled(tensor: Tensor, columns: Columns) -> Floats:
    """The logarithms, those not measured interpolated: between the shapes that have them at the
    same place of the grid, else along the grid.
    """
    values, grid = tensor.logs.copy(), dict(zip(columns.grid, tensor.axes, strict=True))
    for places, scales in parts_of(columns.shape, grid, columns.beyond):
        scaled, mine = np.log(tensor.shapes) * scales, values[:, places]
        missing = np.isnan(mine)
        for place in np.flatnonzero(missing.any(0) & ((~missing).sum(0) >= FEWEST)):
            gaps, known = missing[:, place], ~missing[:, place]
            mine[gaps, place] = interpolated(scaled[known], mine[known, place], scaled[gaps])
        values[:, places] = mine
    found: Any = values
    for axis in range(len(tensor.axes), 0, -1):
        moved = np.moveaxis(found, axis, -1).copy()
        for line in moved.reshape(-1, moved.shape[-1]):
            gaps = np.isnan(line)
            if gaps.any() and not gaps.all():
                at = np.log(tensor.axes[axis - 1])
                line[gaps] = np.interp(at[gaps], at[~gaps], line[~gaps])
        found = np.moveaxis(moved, -1, axis)
    return np.asarray(np.nan_to_num(found), np.float64)


def worthwhile(table: HeldOut, formula: HeldOut) -> bool:
    """Whether a table's errors on unseen shapes are enough below the formula's."""
    return table.median_percent < WORTH * formula.median_percent


class Half(NamedTuple):
    """Rows that were fitted, those left out, the fitted formula's prices of all rows [n], and
    their ``steps``, if they have such (see ``ratio_table``).
    """

    seen: Mask
    unseen: Mask
    formula: Floats
    steps: Floats | None = None


def left_out(table: pd.DataFrame, columns: Columns, fitted: Iterable[Half]) -> Floats:
    """Price over measured [n] of the rows that each half leaves out, by the table of the others."""
    latency, ratio = number(table, "latency_ns"), np.ones(len(table))
    for seen, unseen, formula, steps in fitted:
        part = table[seen].reset_index(drop=True)
        own = 1.0 if steps is None else steps[seen]
        made = ratio_table(part, formula[seen], columns, {}, own)
        asked = {name: number(table, name)[unseen] for name in (*columns.shape, *columns.grid)}
        ratio[unseen] = formula[unseen] * made.at(asked).ratio / latency[unseen]
    return ratio
