"""How figures look."""

import pytest
from matplotlib.figure import Figure

from moesim.report.drawing.style import plain_numbers


@pytest.mark.parametrize("ends", [(22, 83), (0.4, 6), (3, 40_000)])
def test_logarithmic_axes_say_plain_numbers(ends):
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot(ends, ends)
    axes.set(xscale="log", yscale="log")
    plain_numbers(axes.xaxis, axes.yaxis)
    figure.draw_without_rendering()
    both = (axes.xaxis.get_ticklabels(which=which) for which in ("major", "minor"))
    words = [one.get_text() for labels in both for one in labels]
    assert any(words)
    assert all(float(word) > 0 for word in words if word)
