"""How figures look."""

import pytest
from matplotlib.figure import Figure

from moesim.report.drawing.style import FACES, FILLS, faces, plain_numbers


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


@pytest.mark.parametrize(("ends", "base"), [((1, 128), 2), ((0.05, 1), 2), ((0.0001, 0.1), 10)])
def test_every_tick_of_a_logarithmic_axis_has_its_number(ends, base):
    """Of an axis of powers of two from 1 to 128 only these two did."""
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot(ends, ends)
    axes.set_xscale("log", base=base)
    plain_numbers(axes.xaxis)
    figure.draw_without_rendering()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    words = [label.get_text() for tick, label in ticks if ends[0] <= tick <= ends[1]]
    assert len(words) >= 4
    assert all(words)


def test_what_has_no_face_of_its_own_takes_one_that_nothing_else_in_the_figure_has():
    named = ["queue", "attention", "gate", "dispatch_combine", "waiting_for_gpus", "frontend"]
    looks = faces(named)
    assert list(looks) == named
    assert len(set(looks.values())) == len(named)
    assert looks["gate"] == FACES["gate"]


def test_more_categories_than_faces_share_them():
    looks = faces(f"cause_{number}" for number in range(len(FILLS) + 2))
    assert set(looks.values()) == set(FILLS)


def test_every_tick_of_a_linear_axis_has_its_number() -> None:
    """A formatter of logarithmic axes leaves some out: 50, of 10, 20, 30, 40, 50."""
    axes = Figure().subplots()
    axes.plot([8, 54], [0, 1])
    plain_numbers(axes.xaxis)
    ticks = axes.get_xticks().tolist()
    assert axes.xaxis.get_major_formatter().format_ticks(ticks) == [f"{tick:g}" for tick in ticks]
