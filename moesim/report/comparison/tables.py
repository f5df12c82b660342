"""A comparison of two results for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from moesim.report.amounts import number, percent
from moesim.report.comparison.intervals import NAMES, VERDICTS, limits_told
from moesim.report.comparison.sides import ALL
from moesim.sweep.speeds import COST, GOOD, GOOD_COST, LOST, SKIPPED, SKIPPED_WEIGHT

TITLES = {
    "configuration": "what differs in the experiments",
    "results": "what differs in the results",
    "time_share": "share of the GPUs' time",
    "price_share": "what the prices rest on",
    "differences": "second over first, after the warm-up",
    "points": "points with equal axes",
}

HITS = "hit_ratio_per_expert"
POINT_WIDTH = 20
"""Characters of a line that name a point, at least; numbers are on one line."""
FORMS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "output_throughput": ("tokens/s", number),
    ALL: ("processed\ntokens/s", number),
    "dropped_share": ("dropped", percent),
    "skipped_share": ("skipped", percent),
    "skipped_gate_weight_share": ("skipped\nweight", percent),
    HITS: ("hits", percent),
    GOOD: ("good", percent),
    COST: ("$ a\nM tokens", partial(number, digits=3)),
    GOOD_COST: ("$ a\nM good", partial(number, digits=3)),
}


def rendered(compared: Mapping[str, pd.DataFrame]) -> list[RenderableType]:
    """A table for each part that has something to say, a line for each that has not."""
    parts: list[RenderableType] = []
    for name, title in TITLES.items():
        table = compared.get(name)
        if table is None:
            continue
        if table.empty:
            parts.append(Text(f"{title}: nothing"))
        elif name in OWN:
            parts.append(OWN[name](title, table))
        else:
            parts.append(_pairs(name, title, table))
    if "alone" in compared:
        (key, *counts), *_ = compared["alone"].to_numpy()
        parts.append(Text(f"{key}: {counts[0]} of the first, {counts[1]} of the second"))
    return parts


def _sheet(title: str, headings: list[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in [title, *headings]:
        table.add_column(heading, overflow="fold")
    return table


def _pairs(name: str, title: str, table: pd.DataFrame) -> Table:
    share = name.endswith("_share")
    sheet = _sheet(title, ["first", "second", *_last(table)])
    for row in table.to_dict("records"):
        form = percent if share else cell
        values = [form(row[side]) for side in ("first", "second")]
        last = [f"{row[key]:+.1f}" if share else times(row[key]) for key in _last(table)]
        sheet.add_row(str(row["key"]).replace("_", " ") if share else row["key"], *values, *last)
    return sheet


def _last(table: pd.DataFrame) -> list[str]:
    return [name for name in ("ratio", "points") if name in table.columns]


def _points(title: str, table: pd.DataFrame) -> Table:
    """Axes, tokens/s and hits of both, the ratio of the speeds; a dash where a run has none."""
    axes = list(table.columns[: list(table.columns).index("status_first")])
    known = shown_numbers(table)
    if known.pop(ALL, None):
        table, title = _processed(table), f"{title}\n(none decoded: processed)"
    names = [f"{FORMS[name][0]}\n{side}" for name in known for side in ("first", "second")]
    sheet = _sheet(title, [*names, "ratio", "95 %"])
    sheet.columns[0].min_width = POINT_WIDTH
    for column in sheet.columns[1:]:
        column.no_wrap = True
    for row in table.to_dict("records"):
        cells = [
            form(row[f"{name}_{side}"])
            for name, (_, form) in known.items()
            for side in ("first", "second")
        ]
        point = ", ".join(str(row[axis]) for axis in axes)
        low, high = row["ratio_low"], row["ratio_high"]
        limits = "-" if pd.isna(low) else f"{low:.3f}-{high:.3f}"
        sheet.add_row(point, *cells, times(row.get("ratio")), limits)
    return sheet


def _processed(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with processed tokens a second for decoded ones at points that decode none."""
    pairs = [(f"output_throughput_{side}", f"{ALL}_{side}") for side in ("first", "second")]
    none = (table[[output for output, _ in pairs]] == 0).all(axis=1)
    return table.assign(**{output: table[output].mask(none, table[of]) for output, of in pairs})


def shown_numbers(table: pd.DataFrame) -> dict[str, tuple[str, Callable[[Any], str]]]:
    """Those of ``FORMS`` that points have: shares of what is left out where a point leaves some (of
    gate weight, where that is known of all that skip), what clients are promised and dollars where
    they differ, of good tokens in place of all, and processed tokens where a point decodes none.
    """
    known = {name: form for name, form in FORMS.items() if f"{name}_first" in table.columns}
    if GOOD_COST in known:
        known.pop(COST, None)
    shown = {name for name in known if name not in LOST or _any(table, name)}
    shown -= {name for name in (GOOD, COST, GOOD_COST) if _alike(table, name)}
    if SKIPPED_WEIGHT in shown and _all_weighed(table):
        shown.discard(SKIPPED)
    if (table.get("output_throughput_first", pd.Series([1.0])) != 0).all():
        shown.discard(ALL)
    if {GOOD, COST, GOOD_COST} & shown and _alike(table, HITS):
        shown.discard(HITS)  # which leaves room
    return {name: form for name, form in known.items() if name in shown}


def _all_weighed(table: pd.DataFrame) -> bool:
    """Whether the gate weight of what is skipped is known at each point that skips some."""
    pairs = [(f"{SKIPPED}_{side}", f"{SKIPPED_WEIGHT}_{side}") for side in ("first", "second")]
    return all(table.loc[table[rows] > 0, weight].notna().all() for rows, weight in pairs)


def _alike(table: pd.DataFrame, name: str) -> bool:
    """Whether both have the same of it at each point, or nothing."""
    pair = [f"{name}_{side}" for side in ("first", "second")]
    return pair[0] not in table or bool(table[pair[0]].equals(table[pair[1]]))


def _any(table: pd.DataFrame, name: str) -> bool:
    """Whether a point of either has some of what ``name`` is a share of."""
    return bool((table[[f"{name}_first", f"{name}_second"]] > 0).to_numpy().any())


def _differences(title: str, table: pd.DataFrame) -> Table:
    """The difference of each number, its interval and what that says."""
    sheet = _sheet(title, ["difference", "95 %", "by prices", "", "blocks"])
    for row in table.to_dict("records"):
        apart = f"{row['difference']:+.2f} {row['unit']}"
        blocks = f"{row['blocks']}{', paired' if row['paired'] else ''}"
        limits = limits_told(row["low"], row["high"]) or "-"
        prices = limits_told(row["price_low"], row["price_high"]) or "-"
        told = row["verdict"] if row["verdict"] in VERDICTS else "no interval"
        sheet.add_row(NAMES[row["key"]], apart, limits, prices, told, blocks)
    whys = dict.fromkeys(one for one in table["verdict"] if one not in VERDICTS)
    sheet.caption = "\n".join(f"no interval: {why}" for why in whys) or None
    return sheet


OWN: Mapping[str, Callable[[str, pd.DataFrame], Table]] = {
    "points": _points,
    "differences": _differences,
}
"""Tables with a form of their own."""


def cell(value: Any) -> str:
    """A number as tables show it, anything else as text."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return number(value) if plain else "-" if value is None else str(value)


def times(value: Any) -> str:
    """A ratio; nothing for none."""
    return "" if value is None or pd.isna(value) else f"x {value:.3f}"
