"""Names of a front's points beside the picture."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from moesim.report.figures.throughput_vs_memory import MOST_IN_A_COLUMN, _front_only


@pytest.mark.parametrize(("more", "columns"), [(0, 1), (1, 2)])
def test_a_long_front_has_its_names_in_two_columns(more: int, columns: int) -> None:
    """One was twice as tall as its picture."""
    places = range(MOST_IN_A_COLUMN + more)
    points = pd.DataFrame(
        {"pareto": True, "x": places, "y": places, "point": [f"gpu {one}" for one in places]}
    )
    axes = FigureCanvasAgg(Figure()).figure.add_subplot()
    _front_only(points, axes)
    names = _drawn(axes)
    assert len(names) == len(places)
    assert len({round(name.get_window_extent().x0) for name in names}) == columns


def _drawn(axes: Axes) -> list[Text]:
    """The texts of the legend where they are drawn."""
    axes.figure.canvas.draw()
    legend = axes.get_legend()
    return [] if legend is None else list(legend.get_texts())
