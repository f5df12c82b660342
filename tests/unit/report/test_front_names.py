"""Names of a front's points beside the picture."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from moesim.report.figures.throughput_vs_memory import (
    MOST_IN_A_COLUMN,
    ThroughputVsMemory,
    _front_only,
)


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


def test_points_of_several_models_stand_under_their_names() -> None:
    """What all of a model's are called is said once; no column ends with the name of a model."""
    many, few = MOST_IN_A_COLUMN // 2 + 1, MOST_IN_A_COLUMN // 2 + 2
    of_model = ["a"] * many + ["b"] * few
    names = [f"host of {of}, {of}@q4, gpu {at}, batch 1" for at, of in enumerate(of_model)]
    places = range(len(names), 0, -1)
    points = {"pareto": True, "x": places, "y": places, "point": names, "model": of_model}
    axes = FigureCanvasAgg(Figure()).figure.add_subplot()
    _front_only(pd.DataFrame(points), axes)
    drawn = _drawn(axes)
    shown = [name.get_text() for name in drawn]
    assert [one for one in shown if one.startswith("gpu")] == [
        f"gpu {n}" for n in range(len(names))
    ]
    heads = [name for name in drawn if name.get_fontweight() == "bold"]
    assert [head.get_text() for head in heads] == ["a: host of a", "b: host of b"]
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "all: batch 1"
    left = round(drawn[0].get_window_extent().x0)
    column = [name for name in drawn if round(name.get_window_extent().x0) == left]
    assert column[-1] not in heads


def test_the_only_point_of_a_model_is_named_without_it() -> None:
    models = ["a"] * MOST_IN_A_COLUMN + ["b"]
    names = [f"{of}@q4, gpu {at}" for at, of in enumerate(models)]
    places = range(len(names), 0, -1)
    points = {"pareto": True, "x": places, "y": places, "point": names, "model": models}
    axes = FigureCanvasAgg(Figure()).figure.add_subplot()
    _front_only(pd.DataFrame(points), axes)
    assert [name.get_text() for name in _drawn(axes)][-2:] == ["b", f"gpu {MOST_IN_A_COLUMN}"]


def test_the_area_grows_with_a_long_front() -> None:
    points = pd.DataFrame({"pareto": True, "series": [str(n) for n in range(40)]})
    figure = ThroughputVsMemory()
    assert figure.size(points) > figure.size(points.iloc[:MOST_IN_A_COLUMN])
