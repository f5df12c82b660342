"""Results and sweeps in a notebook: a table, figures and charts of the same tables."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.image import imread

import moesim
from moesim.config.errors import InputError
from moesim.report.drawing.charts import MIME, chart_of
from moesim.report.drawing.sheet import Drawn
from moesim.report.plot import figure_of
from tests.unit.results import factory

CHROMIUM = shutil.which("chromium")
HOSTILE = "<img src=x onerror=alert(1)>"


def test_a_sweep_shows_its_points_and_the_best(sweep: Path) -> None:
    text = moesim.read_sweep(sweep)._repr_html_()
    assert text.count("<tr") == 17
    assert text.count("font-weight: bold") == 1
    assert "The fastest of 12 points that ran: 12 slots/layer, lfu" in text


def test_a_result_shows_its_numbers_and_no_markup() -> None:
    result = factory.result()
    result.summary["name"] = HOSTILE
    text = result._repr_html_()
    assert HOSTILE not in text
    assert "&lt;img" in text
    assert "500 tokens/s" in text


def test_a_result_that_was_not_written_has_figures() -> None:
    sheet = factory.result().figure("time_breakdown")
    assert sheet.axes[0].get_xlabel() == "Share of the GPUs' time (%)"
    assert isinstance(sheet, Drawn)
    assert sheet._repr_png_()[:4] == b"\x89PNG"


def test_a_figure_is_saved_with_its_labels(sweep: Path, tmp_path: Path) -> None:
    """As docs/python.md does it: the axes fill the sheet, and nothing else was in the file."""
    sheet = moesim.read_sweep(sweep).figure("throughput_vs_capacity")
    axes = [round(100 * inches) for inches in sheet.get_size_inches()]
    sheet.savefig(tmp_path / "x.png", dpi=100)
    height, width, _ = imread(tmp_path / "x.png").shape
    assert width > axes[0] + 50
    assert height > axes[1] + 50


def test_a_chart_has_the_figures_table(sweep: Path) -> None:
    chart = moesim.read_sweep(sweep).chart("throughput_vs_capacity")
    table = figure_of("throughput_vs_capacity").prepare(sweep)
    values = chart["data"]["values"]
    assert [row["slots_per_layer"] for row in values] == list(table["slots_per_layer"])
    assert chart["encoding"]["y"]["field"] == "output_throughput_tokens_per_s"
    assert set(chart._repr_mimebundle_()) >= set(MIME)
    json.dumps(chart, allow_nan=False)


def test_a_chart_is_of_a_number_and_no_end_of_its_interval() -> None:
    table = pd.DataFrame({
        "series": ["a"], "slots_per_layer": [4], "output_throughput_tokens_per_s": [20.0],
        "low_output_throughput_tokens_per_s": [19.0], "high_output_throughput_tokens_per_s": [21.0],
    })  # fmt: skip
    chart = chart_of(figure_of("throughput_vs_capacity"), table)
    assert chart["encoding"]["y"]["field"] == "output_throughput_tokens_per_s"


def test_what_has_no_chart_or_no_data_says_so(sweep: Path) -> None:
    found = moesim.read_sweep(sweep)
    with pytest.raises(InputError, match="needs a run of requests that are served"):
        found.chart("latency_cdf")
    with pytest.raises(InputError, match="latencies"):
        found.figure("latencies")
    with pytest.raises(InputError, match=r"neither \.html nor \.json"):
        found.chart("throughput_vs_memory").save("chart.png")


def test_a_chart_is_saved_as_data(sweep: Path, tmp_path: Path) -> None:
    chart = moesim.read_sweep(sweep).chart("metric_over_axis", metric="misses", over="capacity")
    path = chart.save(tmp_path / "chart.json")
    assert json.loads(path.read_text()) == chart
    assert chart["encoding"]["y"]["title"] == "misses"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: charts are not drawn")
def test_a_browser_draws_a_chart(sweep: Path, tmp_path: Path) -> None:
    chart = moesim.read_sweep(sweep).chart("time_breakdown")
    page = chart.save(tmp_path / "chart.html")
    shown = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         "--virtual-time-budget=5000", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    assert shown.count('aria-roledescription="bar"') == 12 * 9
