"""A page as one HTML file that asks for nothing from anywhere."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from moesim.report.page.content import Page, Picture
from moesim.report.sweep.table import COLUMNS
from moesim.sweep.speeds import GOOD, GOOD_COST

HERE = files("moesim.report.page")
LIBRARIES = ("vega.min.js", "vega-lite.min.js")
SCRIPTS = ("table.js", "ranges.js", "page.js")
LICENCE = "LICENSE"
MOST_ROWS = 200
"""Rows of the leaderboard that are elements from the start; a script makes the others as they are
asked for, and without scripts they stand in a table below.
"""
LESS = (
    "peak_memory_bytes", "cost_usd_per_million_output_tokens", GOOD_COST, "joules_per_output_token",
)  # fmt: skip
LESSER = [" ".join(title.split()) for name, title, _ in COLUMNS if name in LESS]
"""Headings of what people want little of: over these a front is drawn."""
WANTED = ("output_throughput", "total_token_throughput", GOOD, "hit_ratio_per_expert")
LOW = [" ".join(title.split()) for name, title, _ in COLUMNS if name not in WANTED]
"""Headings of which the least is the best."""
SECTIONS = {
    "verdict": "Verdict", "choose": "Choose", "command": "Command", "board": "Leaderboard",
    "figures": "Figures", "timeline": "Timeline", "tables": "Tables", "time": "What limits",
    "memory": "Memory", "facts": "Numbers", "trust": "Trust", "experiment": "Experiment",
    "made": "Versions",
}  # fmt: skip
HAVING = {
    "time": "shares",
    "timeline": "timeline_notes",
    "memory": "ledger",
    "figures": "pictures",
    "choose": "chooser",
}
"""The fields of a page that fill a section of another name."""
GLOSSARY = {
    "TPOT": "the time from one token of a request to its next",
    "good": "requests that keep all that clients are promised",
    "hits": "of the experts that were needed, those that were on the GPU",
    "stall": "the share of time in which GPUs wait for weights",
    "peak": "memory of the fullest GPU",
    "$ a M tokens": "dollars a million output tokens",
    "$ a M good": "dollars a million output tokens of requests that keep them",
    "J a token": "joules an output token",
    "95 %": "where the mean lies by sampling alone",
}
"""By how a heading begins."""
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'"
)
CHART = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta http-equiv="Content-Security-Policy" content="{{ policy|safe }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>svg { max-width: 100%; height: auto; }</style></head>
<body><main id="chart"></main><script type="application/json" id="spec">{{ spec }}</script>
{% for one in libraries %}<script>{{ one }}</script>{% endfor %}
<script>
const spec = vegaLite.compile(JSON.parse(document.getElementById("spec").textContent)).spec;
const container = document.getElementById("chart");
new vega.View(vega.parse(spec), { renderer: "svg", container, hover: true }).runAsync();
</script></body></html>
"""


def html(page: Page) -> str:
    """The page. Every text of a result is escaped; figures are pictures, in which nothing runs."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["oneline"] = _oneline
    heads = [one.heading for one in (() if page.board is None else page.board.columns)]
    return environment.from_string(_text("page.html")).render(
        page=page,
        policy=POLICY,
        less=[one for one in LESSER if one in heads],
        sections=_sections(page),
        pictures=[_picture(one) for one in page.pictures],
        timeline=[_picture(one) for one in page.timeline],
        words={k: v for k, v in GLOSSARY.items() if any(one.startswith(k) for one in heads)},
        css=Markup(_text("page.css")),  # noqa: S704 (the project's own)
        scripts=[Markup(_text(name)) for name in SCRIPTS],  # noqa: S704
        most=MOST_ROWS,
        libraries=[Markup(text) for text in _libraries()],  # noqa: S704
        choices=Markup(_json(page.chooser)),  # noqa: S704
        chooser=Markup(_text("chooser.js")),  # noqa: S704
        data=Markup(_json(_data(page))),  # noqa: S704 (no sign of markup is left in it)
    )


def _oneline(text: str) -> str:
    """A cell's text: a row is a line, by which a script tells rows apart."""
    return " ".join(text.splitlines())


def chart_html(spec: dict[str, Any]) -> str:
    """One chart as a page."""
    return (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(CHART)
        .render(
            title=spec["title"],
            policy=POLICY,
            libraries=[Markup(text) for text in _libraries()],  # noqa: S704
            spec=Markup(_json(spec)),  # noqa: S704 (no sign of markup is left in it)
        )
    )


def _sections(page: Page) -> list[tuple[str, str]]:
    """Names and headings of those that have something to say."""
    headings = (SECTIONS | {"board": page.board_of}).items()
    return [(name, words) for name, words in headings if getattr(page, HAVING.get(name, name))]


def _libraries() -> Iterator[str]:
    """The libraries, below what their licence asks to stand in every copy."""
    licence = _text(f"vendor/{LICENCE}")
    for name in LIBRARIES:
        yield f"/*! {name}\n{licence}*/\n{_text(f'vendor/{name}')}"


def _data(page: Page) -> dict[str, Any]:
    return {
        "columns": [
            {
                "heading": one.heading,
                "axis": one.axis,
                "number": one.values is not None,
                "less": one.heading in LESSER,
                "low": one.heading in LOW,
                "picked": one.picked,
                "order": list(dict.fromkeys(one.order or one.texts)) if one.axis else None,
            }
            for one in (page.board.columns if page.board else ())
        ],
        "points": page.points,
        "ahead": list(page.board.ahead) if page.board else [],
    }


def _json(value: Any) -> str:
    """``value`` as JSON inside of a script: no ``<``, ``>`` or ``&`` is left."""
    text = json.dumps(value, allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda sign: f"\\u{ord(sign.group()):04x}", text)


def _picture(one: Picture) -> dict[str, str]:
    data = base64.b64encode(one.svg.encode()).decode("ascii")
    return {"title": one.title, "data": data}


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def write(page: Page, path: Path) -> None:
    """Write ``page`` to ``path`` in one go."""
    from moesim.config.files.files import write_whole

    write_whole(path, html(page))
