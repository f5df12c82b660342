"""Tables of figures as Vega-Lite charts: a specification is plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from moesim.config.errors import InputError, Problem
from moesim.report.amounts import heading
from moesim.report.figures import Figure
from moesim.report.figures.base import Chart
from moesim.results.files import plain

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
MIME = ("application/vnd.vegalite.v6+json", "application/vnd.vegalite.v5+json")
"""What notebooks draw themselves; they know one or the other."""
SERIES, VALUE = "series", "value"
"""Of folded columns: which, and its number."""
SCALED = 1e5
"""Numbers from here on are written with k, M or G."""


class VegaLite(dict[str, Any]):
    """A chart's specification, which notebooks draw."""

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {**{name: dict(self) for name in MIME}, "text/plain": json.dumps(self)}

    def save(self, path: Path | str) -> Path:
        """Write it as a page (.html) that opens without network, or as plain data (.json)."""
        from moesim.config.files.files import write_whole
        from moesim.report.page.render import chart_html

        target = Path(path)
        if target.suffix.lower() not in (".html", ".json"):
            what = f"'{target}' is neither .html nor .json"
            raise InputError([Problem("path", "", what)])
        page = target.suffix.lower() == ".html"
        write_whole(target, chart_html(self) if page else json.dumps(self), "path")
        return target


def chart_of(figure: Figure, table: pd.DataFrame) -> VegaLite:
    """``table``, which ``figure`` prepared, as its chart; an InputError where it has none."""
    made = figure.chart
    if made is None:
        what = "has no chart for a browser; result.figure(...) draws it"
        raise InputError([Problem("chart", figure.kind, what)])
    names = list(map(str, table.columns))
    folded = [name for name in names if made.fold and re.fullmatch(made.fold, name)]
    values = plain(table.to_dict("records"))
    return VegaLite(
        {
            "$schema": SCHEMA,
            "title": figure.kind.replace("_", " "),
            "data": {"values": values},
            **({"transform": [{"fold": folded, "as": [SERIES, VALUE]}]} if folded else {}),
            "width": 520,
            "height": 320,
            "mark": {"type": made.mark, "tooltip": True} | _look(made.mark),
            "encoding": _encoding(made, table, folded),
        }
    )


def _look(mark: str) -> dict[str, Any]:
    looks: dict[str, dict[str, Any]] = {
        "line": {"point": True}, "point": {"filled": True}, "area": {"interpolate": "step-after"},
    }  # fmt: skip
    return looks.get(mark, {})


def _encoding(made: Chart, table: pd.DataFrame, folded: list[str]) -> dict[str, Any]:
    known = {"x": made.x, "y": made.y} | ({"color": made.colour} if made.colour else {})
    found = {
        channel: _channel(_column(ending, table, folded), table, made.unit)
        for channel, ending in known.items()
    }
    return {name: one for name, one in found.items() if one}


def _column(ending: str, table: pd.DataFrame, folded: list[str]) -> str:
    """The last column that ends so and is no end of another's interval; a folded one's name as it
    is; none where there is none.
    """
    if folded and ending in (SERIES, VALUE):
        return ending
    names = list(map(str, table.columns))
    ends = {f"{side}_{name}" for name in names for side in ("low", "high")}
    return next((name for name in names[::-1] if name.endswith(ending) and name not in ends), "")


def _channel(name: str, table: pd.DataFrame, unit: str) -> Mapping[str, Any]:
    if not name:
        return {}
    if name == VALUE:
        return {"field": name, "type": "quantitative", "title": unit}
    if name == SERIES and name not in table:
        return {"field": name, "type": "nominal", "title": ""}
    if not pd.api.types.is_numeric_dtype(table[name]):
        return {"field": name, "type": "nominal", "title": heading(name), "sort": None}
    axis = {"axis": {"format": "~s"}} if table[name].abs().max() >= SCALED else {}
    return {"field": name, "type": "quantitative", "title": heading(name), **axis}
