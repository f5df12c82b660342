"""A system's figures: one number over its points, a line or a group of bars for each series."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moesim.report.drawing.style import COLOURS, MARKERS, RC, numeric_ticks, save_figure
from moesim.reproduce.systems.judge import number
from moesim.reproduce.systems.record import Figure
from moesim.reproduce.systems.run import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE = "{name}_{number}"
"""A figure's file, without its ending."""
WIDEST = 0.8
"""Of all bars of a value."""


def save(found: Found, folder: Path, formats: tuple[str, ...] = ("png", "svg")) -> None:
    """Draw the figures of ``found`` into ``folder``."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    for count, one in enumerate(found.system.figures, 1):
        with rc_context(dict(RC)):  # type: ignore[arg-type]
            sheet = Sheet(figsize=(6.4, 3.6), layout="constrained")
            FigureCanvasAgg(sheet)
            _draw(found, one, sheet.add_subplot())
            for ending in formats:
                path = folder / f"{FIGURE.format(name=found.name, number=count)}.{ending}"
                save_figure(sheet, path)


def _draw(found: Found, one: Figure, axes: Axes) -> None:
    numeric = all(isinstance(value, int | float) for value in one.values)
    series = {
        name: [number(found, point, one.of) for point in points]
        for name, points in one.series.items()
    }
    (_lines if numeric else _bars)(one, series, axes)
    axes.set_ylim(bottom=0)
    axes.set(xlabel=one.over, ylabel=one.label)
    if len(series) > 1:
        axes.legend(fontsize="small")


def _lines(one: Figure, series: dict[str, list[float]], axes: Axes) -> None:
    styles = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    for (name, values), (colour, marker) in zip(series.items(), styles, strict=False):
        axes.plot(one.values, values, color=colour, marker=marker, label=name)
    numeric_ticks(axes, list(map(float, one.values)))


def _bars(one: Figure, series: dict[str, list[float]], axes: Axes) -> None:
    places, width = np.arange(len(one.values)), WIDEST / len(series)
    for index, ((name, values), colour) in enumerate(
        zip(series.items(), cycle(COLOURS), strict=False)
    ):
        at = places + (index - (len(series) - 1) / 2) * width
        axes.bar(at, values, width, color=colour, label=name)
    axes.set_xticks(places, [str(value) for value in one.values])
    axes.grid(visible=False, axis="x")
