"""Names beside points that lie close together."""

from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from moesim.report.drawing.point_names import name_points


def named(axes: Axes, points: list[tuple[str, float, float]]) -> list[Bbox]:
    """Where the names of ``points`` stand, in pixels, without the lines to their points."""
    sheet = axes.get_figure(root=True)
    assert sheet is not None
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    name_points(axes, points)
    renderer = FigureCanvasAgg(sheet).get_renderer()
    sheet.draw_without_rendering()
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    for one in labels:
        one.update_positions(renderer)
    return [Text.get_window_extent(one, renderer) for one in labels]


def test_names_of_points_that_lie_close_stand_apart() -> None:
    """With four places each, the fifth of them stood on the first."""
    axes = Figure().subplots()
    boxes = named(axes, [(f"a run of number {n}", 0.4, 0.5 + n / 1000) for n in range(6)])
    assert len(boxes) == 6
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_names_stand_beside_other_points_and_inside_the_axes() -> None:
    """Eight names lay on the points of a figure of 181, one across its edge."""
    axes = Figure(layout="constrained").subplots()
    line = np.linspace(0.05, 0.95, 120)
    axes.scatter(line, line, s=26)
    boxes = named(axes, [(f"a run with a long name {n}", line[n], line[n]) for n in (5, 60, 119)])
    inside = axes.bbox
    for box in boxes:
        assert inside.x0 <= box.x0
        assert box.x1 <= inside.x1
        marks = axes.transData.transform(np.column_stack([line, line]))
        assert not any(box.contains(x, y) for x, y in marks)
