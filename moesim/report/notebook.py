"""Results and sweeps as a notebook shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure as Sheet

from moesim.report.drawing.charts import VegaLite, chart_of
from moesim.report.drawing.sheet import drawn
from moesim.report.figures.base import table_of
from moesim.report.page.content import Board, Column
from moesim.report.page.of_run import answer
from moesim.report.page.of_sweep import board_of, sweep_answer
from moesim.report.plot import figure_of
from moesim.report.run.table import summary_rows
from moesim.results import Result, write_result
from moesim.results.result import setting_in_words
from moesim.sweep.found import Sweep
from moesim.sweep.table import summary_of

MOST_ROWS = 40
HTML = """<div><b>{{ title }}</b><br>{{ setting }}
{% for line in lines %}<br>{{ line }}{% endfor %}
<table><thead><tr>{% for one in board.columns %}<th>{{ one.heading }}</th>{% endfor %}</tr></thead><tbody>
{% for row in board.rows[:most] %}<tr{% if loop.index0 == board.best %} style="font-weight: bold"{% endif %}>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{% if board.rows|length > most %}{{ board.rows|length - most }} more points{% endif %}</div>
"""  # noqa: E501 (markup)


def shown_html(one: Result | Sweep) -> str:
    """A heading, the answer, and a table; every text is escaped."""
    about = _of_sweep(one) if isinstance(one, Sweep) else _of_result(one)
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(HTML).render(most=MOST_ROWS, **about)


def _of_result(result: Result) -> Mapping[str, Any]:
    rows = summary_rows(result.summary)
    columns = [Column("", [name for name, _ in rows]), Column("", [value for _, value in rows])]
    return {
        "title": f"Result {result.summary.get('name')}",
        "setting": setting_in_words(result.configuration),
        "lines": [answer(result.summary)],
        "board": Board(columns),
    }


def _of_sweep(sweep: Sweep) -> Mapping[str, Any]:
    best = sweep.best()
    summary = {} if best is None else summary_of(sweep.folder, int(str(best.name)))
    return {
        "title": f"Sweep {sweep.experiment.get('name')}",
        "setting": setting_in_words(sweep.experiment, without=sweep.varying),
        "lines": list(sweep_answer(sweep, summary)),
        "board": board_of(sweep),
    }


def figure(one: Result | Sweep, kind: str, parameters: Mapping[str, Any]) -> Sheet:
    """The figure as matplotlib's; see ``Shown.figure``."""
    made = figure_of({"kind": kind, **parameters})
    with _folder(one) as folder:
        table = table_of(made, folder)
    with drawn(made, table) as sheet:
        return sheet


def chart(one: Result | Sweep, kind: str, parameters: Mapping[str, Any]) -> VegaLite:
    """The figure's table as a chart; see ``Shown.chart``."""
    made = figure_of({"kind": kind, **parameters})
    with _folder(one) as folder:
        return chart_of(made, table_of(made, folder))


@contextmanager
def _folder(one: Result | Sweep) -> Iterator[Path]:
    """Where figures find it: a result need not have been written."""
    if isinstance(one, Sweep):
        yield one.folder
        return
    with TemporaryDirectory() as above:
        yield write_result(one, Path(above) / "result")
