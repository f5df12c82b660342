"""Labels at the ends of lines and stacks, pushed apart so that none covers another; or legends,
beside the axes, or below them in a picture too narrow for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moesim.report.drawing.style import BELOW

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

LINE_HEIGHT = 1.25
"""Distance of two labels in heights of their font."""
MOST_CHARACTERS = 60
"""Of an axis whose names stand side by side."""


@dataclass(frozen=True)
class EndLabel:
    """``text`` that belongs to the point ``(x, y)`` in data coordinates, and in a legend to
    ``artist``.
    """

    text: str
    x: float
    y: float
    color: str = "#222222"
    artist: Artist | None = None


def spread(
    wanted: Sequence[float], distance: float, low: float, high: float
) -> NDArray[np.float64]:
    """Positions near ``wanted`` in the same order, at least ``distance`` apart, in [low, high].

    Where they do not fit, they keep their distance and grow beyond ``low``.
    """
    order = np.argsort(np.asarray(wanted, dtype=float), kind="stable")
    places = np.clip(np.asarray(wanted, dtype=float)[order], low, high)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + distance)
    ceiling = high
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - distance
    result = np.empty(len(places))
    result[order] = places
    return result


def label_ends(axes: Axes, labels: Sequence[EndLabel], size: float = 9) -> None:
    """Write ``labels`` right of ``axes``, each at the height of its point, with a thin leader; or
    as a legend in that order, where it stands below.

    Call it when the limits of the axes are final.
    """
    if not labels:
        return
    if below():
        legend(axes, sorted(labels, key=lambda label: -label.y))
        return
    from matplotlib import rcParams

    size = min(size, float(rcParams["font.size"]))
    height = axes.get_window_extent().height
    points = axes.transData.transform([(label.x, label.y) for label in labels])
    fractions = axes.transAxes.inverted().transform(points)
    distance = size * LINE_HEIGHT * axes.get_figure(root=True).dpi / 72 / height  # type: ignore[union-attr]
    heights = spread(list(fractions[:, 1]), distance, 0.0, 1.0 - distance / 2)
    for label, end, place in zip(labels, fractions, heights, strict=True):
        axes.annotate(
            label.text,
            xy=(float(min(end[0], 1.0)), float(np.clip(end[1], 0, 1))),
            xycoords="axes fraction",
            xytext=(1.04, float(place)),
            textcoords="axes fraction",
            va="center",
            fontsize=size,
            color="#222222",
            arrowprops={
                "arrowstyle": "-",
                "color": label.color,
                "lw": 0.6,
                "relpos": (0.0, 0.5),
                "shrinkA": 2,
                "shrinkB": 4,
            },
            annotation_clip=False,
        )


def below() -> bool:
    """Whether what names the lines stands below the axes in the picture that is drawn."""
    from matplotlib import rcParams

    return bool(rcParams["legend.loc"] == BELOW["legend.loc"])


def name_places(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """The ``names`` of ``places`` across, aslant where they would stand on one another."""
    long = max(map(len, names)) * len(names) > MOST_CHARACTERS
    axes.set_xticks(
        [*places], [*names], rotation=30 if long else 0, ha="right" if long else "center"
    )


def legend(
    axes: Axes, labels: Sequence[EndLabel] = (), *, right: float = 1.02, **look: Any
) -> None:
    """The legend of ``axes``, of ``labels`` or of all that is labelled: ``right`` of it, in its
    widths; or where whoever draws the sheet puts it, which is below.
    """
    named = {label.text: label.artist for label in labels if label.artist is not None}
    handles = list(named.values()) or axes.get_legend_handles_labels()[0]
    names = list(named) or axes.get_legend_handles_labels()[1]
    if not handles:
        return
    place: dict[str, Any] = {} if below() else {"loc": "upper left", "bbox_to_anchor": (right, 1.0)}
    axes.legend(handles, names, frameon=False, fontsize=9, borderaxespad=0, **place, **look)
