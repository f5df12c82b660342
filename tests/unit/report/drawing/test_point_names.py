"""Names beside points that lie close together."""

from itertools import combinations

from matplotlib.figure import Figure
from matplotlib.text import Annotation

from moesim.report.drawing.point_names import FONT, name_points


def test_names_of_points_that_lie_close_stand_apart() -> None:
    """With four places each, the fifth of them stood on the first."""
    axes = Figure().subplots()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    name_points(axes, [(f"a run of number {n}", 0.4, 0.5 + n / 1000) for n in range(6)])
    places = [text.xyann for text in axes.texts if isinstance(text, Annotation)]
    apart = [abs(one[1] - other[1]) for one, other in combinations(places, 2)]
    assert len(apart) == 15
    assert min(apart) >= FONT - 1
