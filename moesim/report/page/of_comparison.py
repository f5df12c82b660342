"""The page of two results side by side: what changed, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from moesim.metrics.price_interval import TIMED
from moesim.report.amounts import in_unit, number, percent
from moesim.report.comparison.intervals import NAMES, limits_told
from moesim.report.comparison.tables import TITLES, cell, shown_numbers, times
from moesim.report.drawing.style import faces
from moesim.report.page.content import Board, Column, Page, Picture
from moesim.report.page.parts import drawn_picture, unique
from moesim.report.run.components import cause_in_words
from moesim.sweep.words import last_word

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Tables = Mapping[str, pd.DataFrame]
SPEEDS = ("output_throughput", "total_token_throughput")
SIDES = ("first", "second")
NAMED = {"mean_ttft_ms": "mean TTFT", "mean_tpot_ms": "mean TPOT"}
MOST_TOLD = 4
"""Changes and causes in a sentence; the tables have all."""
SMALL_MS = 1e-6


def page_of_comparison(names: tuple[str, str], tables: Tables) -> Page:
    """What ``compare``'s ``tables`` say of the results called ``names``."""
    runs = "results" in tables
    lines = [*(_of_runs if runs else _of_sweeps)(tables), _changed(tables["configuration"])]
    shown = {name: tables[name] for name in BOARDS if len(tables.get(name, ()))}
    return Page(
        kind="comparison",
        title=" and ".join(Path(name).name or name for name in names),
        setting=f"first: {names[0]}; second: {names[1]}",
        verdict=unique(lines),
        board=None if runs else _points(tables["points"]),
        board_of="Points of both",
        pictures=list(_pictures(tables)),
        tables=[(TITLES.get(name, EXTRA), BOARDS[name](table)) for name, table in shown.items()],
    )


def _of_runs(tables: Tables) -> Iterator[str]:
    """How much faster, how sure, and where the time of a token went."""
    rows = tables["results"].set_index("key")
    speed = next((name for name in SPEEDS if name in rows.index), None)
    if speed is None:
        yield "Both are equally fast."
    elif pd.isna(rows["ratio"][speed]):
        states = [rows[side].get("status", "ok") for side in ("first", "second")]
        yield f"They cannot be compared: {' and '.join(str(one) for one in states)}."
    else:
        how = _not(rows, speed, "tokens/s")
        paced = TIMED in list(tables["differences"]["verdict"]) and not _saturates(rows)
        waits = [f"{NAMED[key]} {_not(rows, key, 'ms')}" for key in NAMED if key in rows.index]
        if paced:
            yield f"Requests come by the clock: {'; '.join([*waits, how])}."
        else:
            yield f"The second is x {rows['ratio'][speed]:.3f} as fast: {how}."
    for row in tables["differences"].to_dict("records"):
        sampled = limits_told(row["low"], row["high"], "+.1f")
        prices = limits_told(row["price_low"], row["price_high"], "+.1f")
        if row["key"] == speed and (sampled or prices):
            apart = " ".join(filter(None, (f"{row['difference']:+.1f} %", sampled)))
            by_prices = f"; {prices} by the prices' errors" if prices else ""
            yield f"After the warm-up {NAMES[row['key']]} is {row['verdict']}: {apart}{by_prices}."
    yield _why(tables["time_per_token"])
    yield from _causes(rows)


def _not(rows: pd.DataFrame, key: str, unit: str) -> str:
    """``1360 tokens/s, not 1364``."""
    return f"{number(rows['second'][key])} {unit}, not {number(rows['first'][key])}"


def _saturates(rows: pd.DataFrame) -> bool:
    """Whether one of two keeps up with its requests, and the other does not."""
    return "saturated" in rows.index and any(rows[side]["saturated"] for side in SIDES)


def _why(time: pd.DataFrame) -> str:
    """The sums of a token's time, and what they differ by, the largest part first."""
    if time.empty:
        return ""
    sums = [number(time[side].sum()) for side in ("first", "second")]
    moved = time[time["difference"].abs() > SMALL_MS].head(MOST_TOLD)
    parts = [f"{_key(key)} {ms:+.3g} ms" for key, ms in moved[["key", "difference"]].to_numpy()]
    why = f", of that {', '.join(parts)}" if parts else ""
    return f"A token takes {sums[1]} ms of GPU time, not {sums[0]}{why}."


def _causes(rows: pd.DataFrame) -> Iterator[str]:
    """Hits and bytes, which waits come from."""
    forms: Mapping[str, tuple[str, Callable[[Any], str]]] = {
        "hit_ratio_per_expert": ("Experts on the GPU when they are needed", percent),
        "bytes_h2d": ("Weights from the host", lambda size: f"{number(size / 1e9)} GB"),
    }
    for key, (words, form) in forms.items():
        if key in rows.index and not rows.loc[key, ["first", "second"]].isna().any():
            yield f"{words}: {form(rows['second'][key])}, not {form(rows['first'][key])}."


def _of_sweeps(tables: Tables) -> Iterator[str]:
    ratio = tables["points"].get("ratio", pd.Series(dtype=float)).dropna()
    if ratio.empty:
        yield "No point ran to its end in both."
        return
    faster, slower = int((ratio > 1).sum()), int((ratio < 1).sum())
    yield (
        f"Of {len(ratio)} points that ran in both the second is faster at {faster}, slower"
        f" at {slower}: x {ratio.min():.3f} to x {ratio.max():.3f}, median x {ratio.median():.3f}."
    )
    (_, first, second), *_ = tables["alone"].to_numpy()
    if first or second:
        yield f"Without a partner: {first} of the first, {second} of the second."


def _changed(table: pd.DataFrame) -> str:
    """What the experiments differ in."""
    rows = list(table.itertuples(index=False))
    told = [f"{last_word(str(one.key))} {cell(one.first)} to {cell(one.second)}" for one in rows]
    more = f", and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
    return f"Changed: {', '.join(told[:MOST_TOLD])}{more}." if told else "Nothing was changed."


def _pairs(table: pd.DataFrame) -> Board:
    """Any table of a first and a second number."""
    last = {"ratio": times, "points": "{:+.1f} %".format, "difference": _apart}
    share = "points" in table
    cause = share or "difference" in table
    form: Callable[[Any], str] = percent if share else cell
    columns = [Column("", [_key(key) if cause else str(key) for key in table["key"]])]
    columns += [
        Column(side, [form(value) for value in table[side]], _floats(table[side]))
        for side in ("first", "second")
    ]
    columns += [
        Column(name, [say(value) for value in table[name]], _floats(table[name]))
        for name, say in last.items()
        if name in table
    ]
    return Board(columns)


def _apart(ms: float) -> str:
    return f"{ms:+.4g}" if abs(ms) > SMALL_MS else "0"


def _key(key: Any) -> str:
    return cause_in_words(str(key))


def _differences(table: pd.DataFrame) -> Board:
    limits, prices = (
        [limits_told(*ends) or "-" for ends in table[names].itertuples(index=False)]
        for names in (["low", "high"], ["price_low", "price_high"])
    )
    apart = [f"{row.difference:+.2f} {row.unit}" for row in table.itertuples()]
    return Board([
        Column("", [NAMES[key] for key in table["key"]]),
        Column("difference", apart),
        Column("95 %", limits),
        Column("by prices", prices),
        Column("verdict", [str(one) for one in table["verdict"]]),
    ])  # fmt: skip


def _points(table: pd.DataFrame) -> Board:
    """A row a point: axes, numbers of both, the ratio of their speeds."""
    axes = list(table.columns[: list(table.columns).index("status_first")])
    columns = [Column(last_word(axis), [*table[axis].astype(str)], axis=axis) for axis in axes]
    for name, (title, form) in shown_numbers(table).items():
        for side in ("first", "second"):
            values = table[f"{name}_{side}"]
            unit = " %" if form is percent else ""
            heading = f"{' '.join(title.split())}{unit}"
            texts = [form(value).removesuffix(unit) for value in values]
            numbers = [in_unit(value, heading) for value in values]
            columns.append(Column(f"{heading}, {side}", texts, numbers))
    if "ratio" in table:
        ratio = table["ratio"]
        columns.append(Column("ratio", [times(value) or "-" for value in ratio], _floats(ratio)))
    pairs = table[[f"status_{side}" for side in SIDES]].itertuples(index=False)
    states = [
        " / ".join(dict.fromkeys(str(one).replace("_", " ") for one in pair)) for pair in pairs
    ]
    if set(states) != {"ok"}:
        columns.append(Column("status", states))
    return Board(columns)


def _floats(values: pd.Series[Any]) -> list[float | None] | None:
    """The numbers of a column; None where it holds others, too."""
    plain = [None if pd.isna(value) else value for value in values]
    if any(isinstance(x, bool) or not isinstance(x, int | float | None) for x in plain):
        return None
    return [None if x is None else float(x) for x in plain]


BOARDS: Mapping[str, Callable[[pd.DataFrame], Board]] = {
    "configuration": _pairs,
    "differences": _differences,
    "time_per_token": _pairs,
    "results": _pairs,
    "price_share": _pairs,
}
"""In the order in which they stand on the page."""
EXTRA = "GPU time of a token (ms)"


def _pictures(tables: Tables) -> Iterator[Picture]:
    time = tables.get("time_per_token")
    if time is not None and len(time):
        yield drawn_picture(EXTRA, lambda axes: draw(time, axes), (7.0, 2.4))


def draw(time: pd.DataFrame, axes: Axes) -> None:
    """Two stacked bars, the first result above the second."""
    left = [0.0, 0.0]
    looks = faces(time.iloc[:, 0].astype(str))
    for key, *width, _ in time.itertuples(index=False):
        cause = str(key)
        look = looks[cause]
        axes.barh(
            [0, 1], width, left=left, height=0.7, label=cause_in_words(cause),
            facecolor=look.facecolor, hatch=look.hatch, edgecolor="#333333", linewidth=0.5,
        )  # fmt: skip
        left = [a + b for a, b in zip(left, width, strict=True)]
    axes.set_yticks([0, 1], ["first", "second"])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(EXTRA)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
