"""The figure of miss-ratio curves: every policy over slots, and LRU's misses in parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from moesim.experiment.questions.curves import whole
from moesim.memory.curves.verdict import MOST, Verdict, slots_for
from moesim.report.curves.table import verdict
from moesim.report.drawing.labels import label_ends
from moesim.report.drawing.style import RC, fill, save_figure, series_styles
from moesim.report.sweep.capacity import end_label

XLABEL = "Expert slots per MoE layer"
MARKS = 8
"""Markers on a line."""


def draw(curves: pd.DataFrame, path: Path, title: str, option: str = "--out") -> Path:
    """Draw the curves over all layers of ``moesim.experiment.questions.curves`` into ``path`` (.png
    or .svg) and return it. The right panel is left out without LRU or MIN.
    """
    of_policy = whole(curves)
    found = verdict(of_policy)
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Figure(figsize=(10.8 if found else 5.8, 4.0), layout="constrained")
        FigureCanvasAgg(sheet)
        panels = sheet.subplots(1, 2 if found else 1, squeeze=False)[0]
        if found:
            _parts(found, int(next(iter(of_policy.values()))["activations"].iloc[0]), panels[1])
        sheet.suptitle(title, x=0.01, ha="left")
        for axes in panels:
            axes.xaxis.get_major_locator().set_params(integer=True)
        sheet.draw_without_rendering()
        _lines(of_policy, panels[0])
        save_figure(sheet, path, option)
    return path


def _lines(of_policy: Mapping[str, pd.DataFrame], axes: Axes) -> None:
    """A line a policy, MIN black and dashed; a stem where LRU has most of the gain."""
    ends = []
    styles = series_styles({kind: kind for kind in of_policy})
    for kind, rows in of_policy.items():
        style = styles[kind]
        slots, ratio = rows.index.to_numpy(dtype=float), rows["miss_ratio"].to_numpy(dtype=float)
        (drawn,) = axes.plot(
            slots, 100 * ratio, color=style.color, marker=style.marker, linestyle=style.linestyle,
            markevery=max(len(slots) // MARKS, 1), label=kind,
        )  # fmt: skip
        ends.append(end_label(kind, slots, 100 * ratio, drawn))
    if "lru" in of_policy:
        _mark_gain(of_policy["lru"], axes)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(XLABEL)
    axes.set_ylabel("Misses (% of activations)")
    axes.set_title("Miss ratio")
    if len(ends) > 1:
        axes.legend(fontsize=9, frameon=False)
    else:
        label_ends(axes, ends)


def _mark_gain(rows: pd.DataFrame, axes: Axes) -> None:
    slots = slots_for(rows["misses"].to_numpy())
    axes.axvline(slots, color="#777777", linewidth=0.8, linestyle=(0, (3, 2)))
    axes.annotate(
        f"lru: {MOST:.0%} of the gain\nat {slots} slots", (slots, 0.5), (-4, 0), ha="right",
        xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=9,
    )  # fmt: skip


def _parts(found: Verdict, activations: int, axes: Axes) -> None:
    """LRU's misses: first uses, what MIN misses beyond, and what LRU misses beyond MIN."""
    slots = np.arange(1, len(found.compulsory) + 1)
    names = ("first uses", "MIN beyond first uses (working set)", "LRU beyond MIN (policy)")
    below = np.zeros(len(slots))
    for number, (name, part) in enumerate(
        zip(names, (found.compulsory, found.capacity, found.replacement), strict=True)
    ):
        top = below + 100 * np.maximum(part, 0) / max(activations, 1)
        face = fill(number)
        axes.fill_between(
            slots, below, top, label=name, facecolor=face.facecolor, hatch=face.hatch,
            edgecolor="#333333", linewidth=0.5,
        )  # fmt: skip
        below = top
    axes.set_ylim(bottom=0)
    axes.set_xlabel(XLABEL)
    axes.set_ylabel("LRU's misses (% of activations)")
    axes.set_title("What limits LRU")
    axes.legend(fontsize=9, frameon=False, reverse=True)
