"""Names beside points, each where no other one stands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONT, MARGIN = 7, 5
"""Points of a name, and between it and its point; a character is taken to be .6 as wide."""
LINES = 4
"""How far above and below its point a name may stand, in lines."""
Box = tuple[float, float, float, float]
Place = tuple[float, float]


def name_points(axes: Axes, named: Iterable[tuple[str, float, float]]) -> None:
    """Write each name beside its point, in data coordinates, of ``axes`` whose limits are final."""
    taken: list[Box] = []
    for text, x, y in named:
        point = axes.transData.transform((x, y))
        place = _free(text, tuple(point), taken, axes.figure.dpi / 72)
        axes.annotate(text, (x, y), place, textcoords="offset points", fontsize=FONT)


def _free(text: str, point: Place, taken: list[Box], scale: float) -> Place:
    """Where ``text`` stands beside ``point``, in points: the first place, from near to far, at
    which it touches none of the ``taken`` boxes, in pixels of which a point has ``scale``, and now
    one more.
    """
    wide = 0.6 * FONT * len(text)
    places = [
        (x, y)
        for x in (MARGIN, -MARGIN - wide)
        for line in range(0, LINES * FONT, FONT)
        for y in (MARGIN - 1 + line, -MARGIN - FONT + 1 - line)
    ]
    boxes = [
        (
            point[0] + scale * x,
            point[1] + scale * y,
            point[0] + scale * (x + wide),
            point[1] + scale * (y + FONT),
        )
        for x, y in places
    ]
    free = next((n for n, box in enumerate(boxes) if not any(_meet(box, o) for o in taken)), 0)
    taken.append(boxes[free])
    return places[free]


def _meet(one: Box, other: Box) -> bool:
    """Whether two boxes have a part in common."""
    across = one[0] < other[2] and other[0] < one[2]
    return across and one[1] < other[3] and other[1] < one[3]
