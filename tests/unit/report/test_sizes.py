"""Pictures in a size that was asked for, as for a column of a paper."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.image
import pytest
from matplotlib.text import Text

from moesim.cli.main import main
from moesim.report.drawing.sheet import drawn, frame
from moesim.report.plot import Kind, figure_of, plot
from tests.unit.report import sweeps

FIGURES = (
    "throughput_vs_capacity", "miss_ratio_vs_capacity", "throughput_vs_memory", "memory_over_time",
    "time_breakdown",
)  # fmt: skip
OWN = {"kind": "metric_over_axis", "metric": "mean_tpot_ms", "over": "capacity"}
COLUMN = (3.3, 2.5)


@pytest.mark.parametrize("kind", [*FIGURES, OWN])
def test_every_figure_fits_a_column_of_a_paper(kind: Kind, sweep: Path) -> None:
    figure = figure_of(kind)
    with drawn(figure, figure.prepare(sweep), size=COLUMN) as sheet:
        whole = sheet.get_tightbbox()
        sizes = {float(text.get_fontsize()) for text in sheet.findobj(Text) if text.get_text()}
        area = (sheet.get_figwidth(), sheet.get_figheight())
    assert whole.width <= COLUMN[0]
    assert whole.height <= COLUMN[1]
    assert min(sizes) >= 6.5
    assert area[0] >= 1.8
    assert area[1] >= 0.6


def test_a_narrow_picture_names_its_lines_below(sweep: Path) -> None:
    figure = figure_of("throughput_vs_capacity")
    with drawn(figure, figure.prepare(sweep), size=COLUMN) as sheet:
        names = sheet.axes[0].get_legend()
        assert names is not None
        assert names.get_window_extent().y1 < 0


def test_a_picture_has_the_asked_size(sweep: Path, tmp_path: Path) -> None:
    (_, png, pdf) = plot(sweep, ["throughput_vs_capacity"], out=tmp_path, formats=["png", "pdf"],
                         size="3.4x2.8")  # fmt: skip
    high, wide, _ = matplotlib.image.imread(png).shape
    assert (wide, high) == (3.4 * 160, 2.8 * 160)
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf.read_bytes())
    assert box is not None
    assert [float(side) for side in box.groups()] == pytest.approx([3.4 * 72, 2.8 * 72], abs=0.01)


def test_nothing_is_cut_off(sweep: Path) -> None:
    figure = figure_of("throughput_vs_memory")
    with drawn(figure, figure.prepare(sweep), size=COLUMN) as sheet:
        whole, saved = sheet.get_tightbbox(), frame(sheet, COLUMN)
    assert saved.x0 <= whole.x0
    assert saved.y0 <= whole.y0
    assert saved.x1 >= whole.x1
    assert saved.y1 >= whole.y1


def test_a_wide_picture_names_its_lines_beside_them(sweep: Path) -> None:
    figure = figure_of("throughput_vs_capacity")
    with drawn(figure, figure.prepare(sweep), size=(6.0, 4.0)) as sheet:
        names = sheet.axes[0].get_legend()
        assert names is not None
        assert names.get_window_extent().x0 > sheet.get_figwidth() * sheet.dpi


def test_equal_lines_are_seen_in_a_small_picture(sweep: Path) -> None:
    figure = figure_of("throughput_vs_capacity")
    with drawn(figure, figure.prepare(sweep), size=COLUMN) as sheet:
        widths = [line.get_linewidth() for line in sheet.axes[0].lines]
    assert widths == sorted(set(widths), reverse=True)
    assert max(widths) < 1.6


def test_a_figure_without_room_is_named_and_leaves_nothing(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = ["-f", "throughput_vs_capacity", "-f", "time_breakdown"]
    options = ["--size", "3x1.7", "--format", "png", "-o", str(tmp_path)]
    assert main(["plot", str(sweep), *figures, *options]) == 2
    told = capsys.readouterr()
    assert {path.name for path in tmp_path.iterdir()} == {
        "throughput_vs_capacity.csv", "throughput_vs_capacity.png",
    }  # fmt: skip
    assert len(told.out.splitlines()) == 2
    (line,) = told.err.splitlines()
    found = re.search(r"time_breakdown: 3x1.7 leaves no room .* take ([\d.]+x[\d.]+) or", line)
    assert found is not None
    assert plot(sweep, ["time_breakdown"], size=found[1], out=tmp_path, formats=["png"])


def test_a_named_figure_that_does_not_apply_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sweeps.make_run(tmp_path / "run")
    figures = ["-f", "time_breakdown", "-f", "throughput_vs_capacity"]
    assert main(["plot", str(run), *figures, "--format", "png"]) == 2
    told = capsys.readouterr()
    assert "not drawn" in told.err
    assert len(told.out.splitlines()) == 2
