"""A figure on a sheet of its own, of the usual size or of a size that was asked for."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import fill, wrap
from typing import Any

import pandas as pd
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from moesim.config.errors import InputError, Problem
from moesim.config.registry import answering
from moesim.report.drawing.labels import below
from moesim.report.drawing.style import BELOW, RC, SMALL, TINY
from moesim.report.figures import Figure

Size = tuple[float, float]
ROUNDS, GROWING = 7, 3
"""Drawings until the labels have the place that they need, since their number depends on the area;
and in how many of them that may grow.
"""
NEAR = 0.005
"""Inches that do not matter."""
LEAST_AREA = 0.6
"""Inches of the axes below which nothing can be read."""
READABLE = (1.8, 1.1)
"""Inches of the axes from which on names need not go below and letters not be smaller."""
CHARACTERS_PER_INCH = 12
NARROWEST = 4.0
"""Inches that what stands below a title may have in any case."""
MOST_COLUMNS = 6
PIXELS_PER_INCH = 96
"""In a notebook."""


class Drawn(Sheet):
    """A sheet that a notebook shows. Its axes fill it: labels and legend stand around it."""

    def savefig(self, fname: Any, **how: Any) -> None:
        """As matplotlib's, with all that is drawn, unless ``bbox_inches`` says what else."""
        if how.get("bbox_inches") is None:
            how["bbox_inches"] = "tight"
        super().savefig(fname, **how)

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        with _settings(RC):
            self.savefig(png, format="png", dpi=PIXELS_PER_INCH)
        return png.getvalue()


@contextmanager
def drawn(figure: Figure, table: pd.DataFrame, *, size: Size | None = None) -> Iterator[Sheet]:
    """``table`` drawn on a sheet of its own, under the settings with which it is to be saved: in an
    area of the figure's own size, or in as much of ``size`` (inches) as its labels leave. What its
    column ``setting`` says stands below the title. An InputError where ``size`` is too small.
    """
    if size is None:
        with _settings(RC):
            area = figure.size(table)
            yield _sheet(figure, table, area, max(area[0], NARROWEST))
        return
    fitted = _fitted(figure, table, size)
    with _settings(fitted.look):
        yield fitted.sheet


def frame(sheet: Sheet, size: Size) -> Bbox:
    """What to save of ``sheet``, in inches: ``size`` around all that is drawn."""
    whole = _extent(sheet)
    left, bottom = ((whole.x0 + whole.x1 - size[0]) / 2, (whole.y0 + whole.y1 - size[1]) / 2)
    return Bbox.from_bounds(left, bottom, *size)


@dataclass(frozen=True)
class _Fitted:
    """A sheet, what its axes have, and what they would need for it to be of use."""

    look: Mapping[str, Any]
    sheet: Sheet
    taken: Size
    area: Size
    least: Size

    @property
    def spare(self) -> float:
        """Inches by which the area is larger than needed, of the side that has fewer."""
        return min(a - b for a, b in zip(self.area, self.least, strict=True))

    @property
    def readable(self) -> bool:
        return self.spare >= 0 and all(a >= b for a, b in zip(self.area, READABLE, strict=True))


def _fitted(figure: Figure, table: pd.DataFrame, size: Size) -> _Fitted:
    """The first look that leaves enough: names beside the axes, below them, in smaller letters."""
    narrow = size[0] < figure.size(table)[0]
    tried: list[_Fitted] = []
    for look in ({**RC, **(SMALL if narrow else {})}, {**RC, **SMALL, **BELOW}, {**RC, **TINY}):
        with _settings(look):
            tried.append(_in_size(figure, table, size, look))
        if tried[-1].readable:
            return tried[-1]
    if max(one.spare for one in tried) < 0:
        raise _too_small(figure, size, tried)
    return max(tried, key=lambda one: min(one.spare, 0) or math.prod(one.area))


def _too_small(figure: Figure, size: Size, tried: list[_Fitted]) -> InputError:
    """The error that names the smallest size that has the room."""
    needs = [
        [max(side, a + b) for side, a, b in zip(size, one.taken, one.least, strict=True)]
        for one in tried
    ]
    needed = "x".join(f"{math.ceil(10 * side) / 10:g}" for side in min(needs, key=math.prod))
    what = f"{size[0]:g}x{size[1]:g} leaves no room beside the labels; take {needed} or more"
    return InputError([Problem("--size", figure.stem, what)])


def _in_size(figure: Figure, table: pd.DataFrame, size: Size, look: Mapping[str, Any]) -> _Fitted:
    """The figure in a picture of ``size``, as far as its labels allow that."""
    pad = 2 * float(rcParams["savefig.pad_inches"])
    area, left = size, size
    for number in range(ROUNDS):
        sheet = _sheet(figure, table, area, size[0] - pad, fit=True)
        whole = _extent(sheet)
        taken = (whole.width + pad - area[0], whole.height + pad - area[1])
        left = (size[0] - taken[0], size[1] - taken[1])
        over = [a - b for a, b in zip(area, left, strict=True)]
        if max(over) < NEAR and (number >= GROWING or min(over) > -NEAR):
            break
        if number >= GROWING:  # labels that come and go would take turns for ever
            left = (min(area[0], left[0]), min(area[1], left[1]))
        area = (max(left[0], LEAST_AREA / 2), max(left[1], LEAST_AREA / 2))
    return _Fitted(look, sheet, taken, left, (LEAST_AREA, max(LEAST_AREA, _height_of_ticks(sheet))))


def _height_of_ticks(sheet: Sheet) -> float:
    """Inches that the names at the vertical axis need."""
    named = [text for text in sheet.axes[0].get_yticklabels() if text.get_text()]
    return len(named) * float(rcParams["font.size"]) / 72


def _settings(look: Mapping[str, Any]) -> Any:
    return rc_context(dict(look))  # type: ignore[arg-type]


def _extent(sheet: Sheet) -> Bbox:
    """All that is drawn, in inches."""
    return sheet.get_tightbbox(sheet.canvas.get_renderer())  # type: ignore[attr-defined]


def _sheet(
    figure: Figure, table: pd.DataFrame, area: Size, width: float, *, fit: bool = False
) -> Sheet:
    """``table`` on axes of ``area``; what stands below the title, and to ``fit`` all that is
    written, is at most ``width`` wide.
    """
    told = table["setting"].iloc[0] if "setting" in table else ""
    setting = told if isinstance(told, str) else ""  # an empty cell of a CSV is none
    sheet = Drawn(figsize=area)
    FigureCanvasAgg(sheet)
    axes = sheet.add_axes((0.0, 0.0, 1.0, 1.0))
    with answering("figures", figure):
        figure.draw(table, axes)
    title = axes.get_title(loc="left")
    lines = wrap(setting, int(width * CHARACTERS_PER_INCH), break_on_hyphens=False)
    under = setting if fit else "\n".join(lines)
    for text in axes.get_children() if setting else ():
        if isinstance(text, Text) and title and text.get_text() == title:
            text.set_text(f"{title}\n{under}")
    if rcParams["font.size"] < RC["font.size"]:
        _shrink(sheet)
    if fit:
        _break_lines(sheet, axes, area, width)
    if below():
        _move_legend(sheet, axes, width)
    return sheet


def _shrink(sheet: Sheet) -> None:
    """Bring letters that have a size of their own to the small one."""
    for text in sheet.findobj(Text):
        if isinstance(text, Text):
            text.set_fontsize(min(float(rcParams["font.size"]), float(text.get_fontsize())))


def _break_lines(sheet: Sheet, axes: Axes, area: Size, width: float) -> None:
    """Break what is longer than the picture has room for: titles and notes at the width, what is
    written upwards at the height of the axes.
    """
    dpi = sheet.dpi
    for upright in (axes.yaxis.label, *axes.texts):
        if upright.get_rotation() == 90:  # noqa: PLR2004 (degrees)
            _break(upright, _box(upright).height / dpi, max(area[1], 2 * LEAST_AREA))
    _break(axes.xaxis.label, _box(axes.xaxis.label).width / dpi, area[0])
    beside = -_extent(sheet).x0  # what stands left of the axes
    notes = [text for text in axes.texts if _box(text).y1 < 0]
    for text in (*axes.get_children(), *notes):
        if isinstance(text, Text) and (text in notes or text not in axes.texts):
            _break(text, _box(text).width / dpi, width - beside)


def _box(text: Text) -> Bbox:
    """Where ``text`` stands, in pixels, without its leader."""
    return Text.get_window_extent(text)


def _break(text: Text, length: float, room: float) -> None:
    if length > room:
        lines = text.get_text().split("\n")
        characters = int(max(map(len, lines)) * room / length)
        broken = [fill(line, max(characters, 8), break_long_words=False) for line in lines]
        text.set_text("\n".join(broken))


def _move_legend(sheet: Sheet, axes: Axes, width: float) -> None:
    """Put the legend below all else, in as many columns as the width has."""
    old = axes.get_legend()
    if old is None:
        return
    handles = [handle for handle in old.legend_handles if handle is not None]
    names = [text.get_text() for text in old.get_texts()]
    size = float(old.get_texts()[0].get_fontsize())
    old.remove()
    rest = _extent(sheet)
    place = (rest.x0 / sheet.get_figwidth(), (rest.y0 - 0.05) / sheet.get_figheight())
    for columns in range(min(len(names), MOST_COLUMNS), 0, -1):
        new = axes.legend(
            handles, names, loc="upper left", bbox_to_anchor=place, ncols=columns, fontsize=size,
            frameon=False, borderaxespad=0, borderpad=0, handlelength=2.4, columnspacing=1.0,
            labelspacing=0.3,
        )  # fmt: skip
        if new.get_window_extent().width <= width * sheet.dpi:
            return
