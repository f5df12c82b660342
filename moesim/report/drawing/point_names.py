"""Names beside points, each where no other name and no other point stands."""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, pi, sin
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT, MARGIN = 7, 5
"""Points of a name, and between it and its point; a character is taken to be .6 as wide."""
FAR, TURNS, STEPS = (15, 25, 40, 60, 80, 105, 135, 170, 210), 24, 30
"""Points between a name and its point that a line joins, in how many directions, and in how many
steps of the line it is looked at whether something lies under it.
"""
MARK = 3
"""Points from the middle of a mark to its edge."""
ON_NAME, OUTSIDE = 1000, 100
"""How much worse than on another mark it is to stand on another name, and outside of the axes."""
UNMARKED = ("", " ", "none", "None")
LINE = {"arrowstyle": "-", "linewidth": 0.5, "color": "#555555", "shrinkA": 0, "shrinkB": MARK}
Box = tuple[float, float, float, float]
Place = tuple[float, float]
Floats = NDArray[np.float64]


def name_points(axes: Axes, named: Iterable[tuple[str, float, float]]) -> None:
    """Write each name beside its point, in data coordinates, of ``axes`` whose limits are final;
    further away, with a line to it, where there is no room.
    """
    sheet = axes.get_figure(root=True)
    assert sheet is not None, "axes are drawn on a figure"
    sheet.draw_without_rendering()  # then points are where they stay
    key = axes.get_legend()
    taken = [] if key is None else [_box(key.get_window_extent())]
    scale, marks, room = sheet.dpi / 72, _marks(axes), _box(axes.bbox)
    near = _near()
    places = [*near, *_far()]
    for text, x, y in named:
        point = axes.transData.transform((x, y))
        boxes = [_at(point, place, (0.6 * FONT * len(text), FONT), scale) for place in places]
        lines = [_line(point, box) for box in boxes[len(near) :]]
        bad = [_badness(box, taken, marks, room) for box in boxes]
        under = [0.0] * len(near) + [_under(line, taken, marks) for line in lines]
        best = int(np.argmin(np.add(bad, under)))
        taken.append(boxes[best])
        if joined := best >= len(near):
            marks = np.vstack([marks, np.hstack([lines[best - len(near)]] * 2)])
        _write(axes, (text, x, y), places[best], joined=joined)


def _write(axes: Axes, named: tuple[str, float, float], place: Place, *, joined: bool) -> None:
    text, *point = named
    side, up = ("right" if place[0] < 0 else "left"), ("top" if place[1] < 0 else "bottom")
    corner = (1.0 if place[0] < 0 else 0.0, 1.0 if place[1] < 0 else 0.0)
    label = axes.annotate(
        text, (point[0], point[1]), place, textcoords="offset points", fontsize=FONT,
        ha=side, va=up, arrowprops={**LINE, "relpos": corner} if joined else None,
    )  # fmt: skip
    label.set_in_layout(False)  # else axes would give way to it


def _near() -> list[Place]:
    """Where the corner of a name that is next to its point is, in points from that."""
    return [(x, y) for x in (MARGIN, -MARGIN) for y in (MARGIN - 3, 3 - MARGIN)]


def _far() -> list[Place]:
    """The same of one that a line joins, from near to far."""
    turns = [2 * pi * (turn + 0.5) / TURNS for turn in range(TURNS)]
    return [(reach * cos(turn), reach * sin(turn)) for reach in FAR for turn in turns]


def _at(point: Any, place: Place, size: Place, scale: float) -> Box:
    """In pixels, of which a point has ``scale``: a name of a ``size``, away from its point."""
    ends = [
        sorted((point[side] + scale * place[side], point[side] + scale * (place[side] + more)))
        for side in (0, 1)
        for more in [np.copysign(size[side], place[side])]
    ]
    (left, right), (low, high) = ends
    return left, low, right, high


def _marks(axes: Axes) -> Floats:
    """Left, low, right and high of what is marked, float64[marks, 4] in pixels."""
    from matplotlib.collections import PathCollection

    lines = [line.get_xydata() for line in axes.lines if line.get_marker() not in UNMARKED]
    dots = [one.get_offsets() for one in axes.collections if isinstance(one, PathCollection)]
    found = [np.asarray(one, float).reshape(-1, 2) for one in (*lines, *dots)]
    middle = axes.transData.transform(np.concatenate([np.empty((0, 2)), *found]))
    reach = MARK * axes.figure.dpi / 72
    return np.hstack([middle - reach, middle + reach])


def _line(point: Any, box: Box) -> Floats:
    """Places on the line from ``point`` to the nearest of ``box``, float64[``STEPS``, 2]."""
    ends = [np.clip(point[side], box[side], box[side + 2]) for side in (0, 1)]
    steps = np.linspace(0, 1, STEPS + 1)[1:, None]
    return np.asarray(np.asarray(point) + steps * (np.asarray(ends) - np.asarray(point)))


def _badness(box: Box, taken: list[Box], marks: Floats, room: Box) -> float:
    names = sum(_meet(box, other) for other in taken)
    left, low, right, high = marks.T
    dots = (box[0] < right) & (left < box[2]) & (box[1] < high) & (low < box[3])
    inside = room[0] <= box[0] and room[1] <= box[1] and box[2] <= room[2] and box[3] <= room[3]
    return ON_NAME * names + OUTSIDE * (not inside) + float(dots.sum())


def _under(line: Floats, taken: list[Box], marks: Floats) -> float:
    """The same of what a ``line`` crosses, but for the mark that it begins at."""
    dots, names = (_crossed(line, np.reshape(boxes, (-1, 4))) for boxes in (marks, taken))
    return ON_NAME * names + max(dots - 1, 0)


def _crossed(line: Floats, boxes: Floats) -> int:
    """How many ``boxes`` have a place on the ``line`` in them."""
    over = (line[:, None] >= boxes[:, :2]) & (line[:, None] <= boxes[:, 2:])
    return int(over.all(axis=2).any(axis=0).sum())


def _box(extent: Any) -> Box:
    return extent.x0, extent.y0, extent.x1, extent.y1


def _meet(one: Box, other: Box) -> bool:
    """Whether two boxes have a part in common."""
    across = one[0] < other[2] and other[0] < one[2]
    return across and one[1] < other[3] and other[1] < one[3]
