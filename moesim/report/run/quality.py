"""Speed against quality: the table of a sweep, and its lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from moesim.report.drawing.labels import legend
from moesim.report.drawing.style import series_styles, sizes
from moesim.report.sweep.capacity import end_label, series_words
from moesim.report.sweep.series import throughput_column, throughputs
from moesim.sweep.found import Sweep
from moesim.sweep.speeds import (
    CUT,
    LOSSES,
    LOWERED,
    SKIPPED,
    SKIPPED_WEIGHT,
    SUBSTITUTED,
    THROUGHPUTS,
    losses,
    numbers,
)
from moesim.sweep.words import in_words

SHARE = "not_in_full_share"
QUALITY = "quality."
COURSE = "course"


def not_in_full(table: pd.DataFrame) -> pd.Series[float]:
    """The share of gate weight that each point lowers, skips, drops or cuts; of choices where no
    weights are known.
    """
    found = losses(table)
    parts = [found[name] for name in ("dropped_share", CUT, SUBSTITUTED, LOWERED) if name in found]
    if SKIPPED in found:
        parts.append(found[SKIPPED_WEIGHT].fillna(found[SKIPPED]))
    total: pd.Series[float] = sum(parts, start=pd.Series(0.0, index=table.index))
    return total


def quality_table(sweep: Sweep) -> pd.DataFrame:
    """The table of ``SpeedAgainstQuality``."""
    first = [axis for axis in sweep.axes if axis in sweep.varying][:1]
    aside = [axis for one in first for axis in (one, *sweep.together(one))]
    head: dict[str, Any] = {
        "series": sweep.labels(without=aside),
        COURSE: sweep.table[first[0]].map(in_words).astype(str) if first else "",
        "policy": sweep.policies,
        "status": sweep.table["status"],
        **losses(sweep.table),
        SHARE: not_in_full(sweep.table),
    }
    for name in (name for name in sweep.table.columns if name.startswith(QUALITY)):
        known = numbers(sweep.table, name)
        if known[sweep.table["status"] == "ok"].notna().all():
            head |= {"quality": name.removeprefix(QUALITY), "quality_per_access": known}
    return pd.DataFrame(head).join(throughputs(sweep.table)).reset_index(drop=True)


def draw_quality(table: pd.DataFrame, axes: Axes) -> None:
    """See ``SpeedAgainstQuality.draw``."""
    column = throughput_column(table)
    table = table[table["status"] == "ok"].fillna({"series": "", "policy": ""})
    said = "quality_per_access" in table
    groups = list(table.groupby("series", sort=False))
    styles = series_styles({str(name): str(line["policy"].iloc[0]) for name, line in groups})
    left_out = [name for name in LOSSES if name in table]
    ends = []
    for number, (name, line) in enumerate(groups):
        style = styles[str(name)]
        x = (line["quality_per_access"] if said else 100 * line[SHARE]).to_numpy(dtype=float)
        y = line[column].to_numpy(dtype=float)
        whole = (line[left_out] == 0).all(axis=1).to_numpy()
        (drawn,) = axes.plot(x, y, color=style.color, linestyle=style.linestyle,
                             **{**sizes(number, len(groups)), "marker": ""})  # fmt: skip
        for mask, fill in ((whole, style.color), (~whole, "white")):
            axes.plot(x[mask], y[mask], linestyle="", marker=style.marker, color=style.color,
                      markerfacecolor=fill)  # fmt: skip
        drawn.set_marker(style.marker)
        words = series_words(str(name) or "all points", line[["policy", "status"]])
        ends.append(end_label(words, x, y, drawn))
    what = "Quality" if not said else str(table["quality"].iloc[0]).capitalize()
    axes.set_xlabel(what if said else "Gate weight not served in the best format (%)")
    axes.set_ylabel(THROUGHPUTS[column])
    axes.set_title("Speed against quality; hollow: something is skipped, dropped or cut"
                   if _hollow(table, left_out) else "Speed against quality")  # fmt: skip
    axes.set_ylim(0, 1.05 * float(np.nanmax(table[column])))
    if len(ends) > 1 or ends[0].text != "all points":
        legend(axes, sorted(ends, key=lambda end: -end.y))


def _hollow(table: pd.DataFrame, left_out: list[str]) -> bool:
    return bool((table[left_out] > 0).any(axis=None))
