"""The table of a sweep in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moesim.report.amounts import gib, number, percent, span
from moesim.report.run.trust import sweep_trust
from moesim.sweep.speeds import (
    CUT,
    GOOD,
    GOOD_COST,
    LOSSES,
    LOWERED,
    SKIPPED,
    SKIPPED_WEIGHT,
    SUBSTITUTED,
    how_lost,
    knows_future,
    losses,
    numbers,
    ranked,
    share_in_words,
)
from moesim.sweep.words import in_words, last_word, word


def _share(share: float) -> str:
    """A share in percent, without the sign; a dash where it is not known."""
    return "-" if pd.isna(share) else share_in_words(share).removesuffix(" %")


OUTPUT, PROCESSED = "output_throughput", "total_token_throughput"


ON_CPU, FITTED = "layers_on_cpu", "layers_on_cpu_auto"
COLUMNS: Sequence[tuple[str, str, Callable[[Any], str]]] = (
    (OUTPUT, "tokens/s", number),
    (PROCESSED, "processed\ntokens/s", number),
    ("dropped_share", "dropped\n%", _share),
    (SKIPPED_WEIGHT, "skipped\nweight %", _share),
    (SKIPPED, "skipped\n%", _share),
    (CUT, "cut\nweight %", _share),
    (SUBSTITUTED, "substituted\nweight %", _share),
    (LOWERED, "lowered\nweight %", _share),
    ("interval", "\n95 %", str),
    ("mean_ttft_ms", "TTFT\nms", lambda ms: number(ms, 3)),
    ("mean_tpot_ms", "TPOT\nms", lambda ms: number(ms, 3)),
    (GOOD, "good\n%", _share),
    ("hit_ratio_per_expert", "hits\n%", lambda ratio: percent(ratio).removesuffix(" %")),
    ("time_share.waiting_for_weights", "stall\n%", lambda x: percent(x).removesuffix(" %")),
    ("time_share.waiting_for_storage", "drive\n%", lambda x: percent(x).removesuffix(" %")),
    (ON_CPU, "layers\non CPU", number),
    ("cost_usd_per_million_output_tokens", "$ a\nM tokens", lambda usd: number(usd, 3)),
    (GOOD_COST, "$ a M\ngood", lambda usd: number(usd, 3)),
    ("joules_per_output_token", "J a\ntoken", lambda joules: number(joules, 3)),
    ("peak_memory_bytes", "peak\nGiB", lambda size: gib(size).removesuffix(" GiB")),
)


GIVEN_UP = (
    "interval", "peak_memory_bytes", "time_share.waiting_for_weights", "hit_ratio_per_expert",
    "time_share.waiting_for_storage", "mean_ttft_ms", "mean_tpot_ms",
)  # fmt: skip
"""Columns that a narrow terminal loses, the first first: the files have them."""


SATURATED = "saturated"
"""Of a service whose waiting line grows: the number, and the word for its status."""
LATENCIES = ("mean_ttft_ms", "mean_tpot_ms")


GAP = 2
"""Characters between two columns of a sweep's table."""


def sweep_table(
    points: pd.DataFrame,
    axes: Sequence[str],
    width: int | None = None,
    *,
    most: int | None = None,
    allow_drops: bool = False,
    kept_up: pd.Series[bool] | None = None,
) -> RenderableType:
    """One row a point with its axes and key numbers; of the points that leave out no choice (with
    ``allow_drops``: of all) the fastest is marked and bold.

    Below it, once each, the reasons of the points that have no numbers, and what the prices
    rest on. Where it is wider than ``width`` characters, numbers are left out as in ``GIVEN_UP``.
    Of more than ``most`` points the first are shown, and the marked one. None is marked where the
    fastest ``kept_up`` with requests that came when they came: these set its throughput.
    """
    every, best = points, _best(points, allow_drops=allow_drops)
    paced = kept_up is not None and best >= 0 and bool(kept_up.iloc[best])
    best = -1 if paced else best
    places = [n for n in range(len(points)) if most is None or n < most or n == best]
    points, best = points.iloc[places], places.index(best) if best in places else -1
    table = Table(
        title=_title(every),
        caption=PACED if paced else _caption(every, allow_drops=allow_drops),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    points = with_shown(points)
    units = {axis: _common_unit(points[axis]) for axis in axes}
    headings = [_heading(axis, axes, units[axis]) for axis in axes]
    least = [min(_width([heading]), 12) for heading in headings]
    for heading, characters in zip(headings, least, strict=True):
        table.add_column(heading, overflow="fold", min_width=characters)
    states = [
        state + (" *" if place == best else "") for place, state in enumerate(_states(points))
    ]
    columns = {
        title: [form(value) for value in points[name]]
        for name, title, form in _fitting(points, [*least, _width(["status", *states])], width)
    }
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for place, (_, row) in enumerate(points.iterrows()):
        cells = [in_words(_value(row[axis])).removesuffix(units[axis]).strip() for axis in axes]
        numbers = [texts[place] for texts in columns.values()]
        table.add_row(*cells, *numbers, states[place], style="bold" if place == best else None)
    lines = (*reasons(every), *grows(every), *sweep_trust(every))
    return Group(table, *(Text(line) for line in lines))


def _states(points: pd.DataFrame) -> list[str]:
    """The status of each point; of a service that does not keep up that."""
    states = [str(status).replace("_", " ") for status in points["status"]]
    return [
        SATURATED if state == "ok" and grew else state
        for state, grew in zip(states, _saturated(points), strict=True)
    ]


def _saturated(points: pd.DataFrame) -> list[bool]:
    if SATURATED not in points:
        return [False] * len(points)
    return [pd.notna(one) and bool(one) for one in points[SATURATED]]


def grows(points: pd.DataFrame) -> list[str]:
    """What it says of a point's times that the service does not keep up."""
    what = "the waiting line grows to the end, and times are those of so many requests"
    return [f"{SATURATED}: {what}"] if any(_saturated(points)) else []


def _fitting(
    points: pd.DataFrame, others: Sequence[int], width: int | None
) -> list[tuple[str, str, Callable[[Any], str]]]:
    """The columns of numbers that fit into ``width`` beside columns as wide as ``others``."""
    columns = [column for column in COLUMNS if column[0] in points.columns]
    wide = {
        name: _width([title, *(form(value) for value in points[name])])
        for name, title, form in columns
    }
    for name in GIVEN_UP:
        if width is None or sum(n + GAP for n in (*others, *wide.values())) - GAP <= width:
            break
        wide.pop(name, None)
    return [column for column in columns if column[0] in wide]


def _width(texts: Sequence[str]) -> int:
    """Characters of the longest line."""
    return max(cell_len(line) for text in texts for line in text.split("\n"))


def with_shown(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` with those of ``COLUMNS`` that say something of them."""
    unasked = [one for one in (GOOD, *LATENCIES) if numbers(points, one).isna().all()]
    unasked += [] if FITTED in points else [ON_CPU]
    return _with_losses(_with_intervals(points.drop(columns=unasked, errors="ignore")))


def _with_intervals(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` with the throughput of all tokens where some put none out, alone where all do so,
    and the column ``interval`` where one has an interval of it.
    """
    decoding = numbers(points, OUTPUT) > 0
    silent = ~decoding & (numbers(points, PROCESSED) > 0)
    alone = bool(silent.any() and not decoding.any())
    without = [OUTPUT] if alone else [] if silent.any() else [PROCESSED]
    points, speed = points.drop(columns=without, errors="ignore"), PROCESSED if alone else OUTPUT
    names = [f"intervals.{speed}.{side}" for side in ("low", "high")]
    if not set(names) <= set(points.columns) or points[names[0]].isna().all():
        return points
    return points.assign(interval=[span(*pair) for pair in points[names].to_numpy()])


def _with_losses(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` with the columns of what they leave out only where a point does: of skipped
    experts the gate weight, and the share of choices where a trace has no weights.
    """
    found = losses(points)
    if SKIPPED in found:
        weighed = (found[SKIPPED] == 0) | found[SKIPPED_WEIGHT].notna()
        found[SKIPPED_WEIGHT] = found[SKIPPED_WEIGHT].fillna(0.0).where(weighed)
        found[SKIPPED] = found[SKIPPED].where(~weighed)
    shown = found.loc[:, (found > 0).any()]
    others = points.drop(columns=[*LOSSES, SKIPPED_WEIGHT, LOWERED], errors="ignore")
    return others.join(shown)


def _heading(axis: str, axes: Sequence[str], unit: str) -> str:
    """The last word of the path (the word before ``kind``) where it is one axis's alone."""
    alone = sum(last_word(other) == last_word(axis) for other in axes) == 1
    return f"{last_word(axis) if alone else axis}\n{unit}".strip()


def _common_unit(values: pd.Series[Any]) -> str:
    """The unit that all values of an axis with a number end with, "" where there is none."""
    units = {str(value).partition(" ")[2] for value in values if str(value) != "all"}
    return units.pop() if len(units) == 1 else ""


def _value(value: Any) -> str:
    return "-" if pd.isna(value) else word("", value).strip()


def reasons(points: pd.DataFrame) -> list[str]:
    """Each reason once, with the number of points that have it."""
    known = points[points["reason"].notna()]
    return [
        f"{str(status).replace('_', ' ')} ({len(group)} of {len(points)}): {reason}"
        for (status, reason), group in known.groupby(["status", "reason"], sort=False)
    ]


def _title(points: pd.DataFrame) -> str:
    counts = points["status"].value_counts()
    return ", ".join(f"{n} {str(status).replace('_', ' ')}" for status, n in counts.items())


WHATEVER = ", whatever clients are promised"
"""Behind what is the best by a number alone, where some points keep not all promises."""
PACED = (
    "no star: requests come when they come, and the fastest point keeps up with them, so that they"
    " set its throughput; compare latencies and goodput"
)


def _best(points: pd.DataFrame, *, allow_drops: bool) -> int:
    """The place of the point with the star, -1 where none has one."""
    speed = ranked(points, allow_drops=allow_drops)
    return int(points.index.get_loc(speed.index[0])) if len(speed) else -1  # type: ignore[arg-type]


def _caption(points: pd.DataFrame, *, allow_drops: bool) -> str:
    """What the star says, and what it passes over."""
    lost = "" if allow_drops else how_lost(points)
    if lost and ranked(points).empty:
        how = how_lost(points, "s")
        return f"no star: every point {how} choices; --allow-drops marks the fastest"
    over = [f"{lost} no choice"] if lost else []
    known = knows_future(points)
    over += ["do not know the future"] * bool(known.any() and not known.all())
    of = f"points that {' and '.join(over)}" if over else "sweep"
    lowered, promised = _lowered(points, allow_drops=allow_drops), whatever_promised(points)
    text = f"* the highest throughput of the {of}{lowered}{promised}"
    return f"{text}; --allow-drops: of all" if lost else text


def whatever_promised(points: pd.DataFrame) -> str:
    """What to say of a best point where some keep not all that clients are promised."""
    return WHATEVER if (numbers(points, GOOD) < 1).any() else ""


def _lowered(points: pd.DataFrame, *, allow_drops: bool) -> str:
    """What the point with the star serves in lower formats."""
    found, best = losses(points), _best(points, allow_drops=allow_drops)
    share = float(found[LOWERED].iloc[best]) if LOWERED in found and best >= 0 else 0.0
    return f", with {_share(share)} % of the gate weight in lower formats" if share else ""
