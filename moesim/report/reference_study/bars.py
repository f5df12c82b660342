"""Figures of bars: where the time goes, what memory holds, how even the load is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moesim.report.drawing.style import FACES, face, fill

TASKS = {"lm": "LM", "mt_encoder": "MT encoder", "mt_decoder": "MT decoder"}
WORDS = {
    "dispatch_combine": "dispatch and combine",
    "waiting_for_gpus": "waiting for GPUs",
    "kv_cache": "KV cache",
    "all_to_all_buffers": "all-to-all buffers",
    "anti_correlation": "anti-correlation",
}
GATINGS = ("dense", "static", "tutel", "dynamic")
EDGE: dict[str, Any] = {"edgecolor": "#333333", "linewidth": 0.5}
CARD_GIB = 32


def latency_breakdown(table: pd.DataFrame, sheet: Figure) -> None:
    """Milliseconds of a batch, stacked by category: a panel a task, a bar a gating and node
    count.
    """
    sheet.set_size_inches(13.5, 4.6)
    panels = sheet.subplots(1, len(TASKS))
    names = _used(table, "category", "ms")
    for axes, (task, title) in zip(panels, TASKS.items(), strict=True):
        part = table[table["task"] == task]
        bars = [(nodes, gating) for nodes in sorted(set(part["nodes"])) for gating in GATINGS]
        wide = part.pivot_table(index=["nodes", "gating"], columns="category", values="ms")
        _stacks(axes, wide.reindex(bars), names)
        totals = [f"{total:,.0f}" for total in wide.reindex(bars).sum(axis=1)]
        axes.bar_label(axes.containers[-1], totals, padding=3, fontsize=8)
        axes.set_xlim(0, 1.12 * axes.get_xlim()[1])
        words = [f"{nodes} node{'s' * (nodes > 1)}, {gating}" for nodes, gating in bars]
        axes.set_yticks(np.arange(len(bars)), words)
        axes.set_xlabel("Time of a batch (ms)")
        axes.set_title(title)
    legend(sheet, panels[0], 7)


def memory(table: pd.DataFrame, sheet: Figure) -> None:
    """GiB of a GPU, stacked by category, and the card's memory."""
    sheet.set_size_inches(11.5, 2.9)
    panels = sheet.subplots(1, len(TASKS), sharex=True)
    names = _used(table, "part", "gib")
    for axes, (task, title) in zip(panels, TASKS.items(), strict=True):
        part = table[table["task"] == task]
        wide = part.pivot_table(index="gating", columns="part", values="gib").reindex(GATINGS[1:])
        _stacks(axes, wide, names)
        axes.axvline(CARD_GIB, color="black", linestyle=(0, (3, 2)), linewidth=0.9)
        axes.set_yticks(np.arange(len(wide)), list(wide.index))
        axes.set_xlabel(f"Memory of a GPU (GiB); dashed: {CARD_GIB}")
        axes.set_title(title)
    panels[0].set_xlim(0, 1.06 * CARD_GIB)
    legend(sheet, panels[0], 5)


def load_by_planner(table: pd.DataFrame, sheet: Figure) -> None:
    """The largest GPU's share before and after balancing; a panel a metric."""
    sheet.set_size_inches(9.5, 3.2)
    metrics = {"max_load": "Maximum over batches", "average_max_load": "Mean over batches"}
    domains = list(dict.fromkeys(table["domain"]))
    panels = sheet.subplots(1, len(metrics), sharey=True)
    for axes, (metric, title) in zip(panels, metrics.items(), strict=True):
        part = table[table["metric"] == metric]
        wide = part.pivot_table(index="domain", columns="planner", values="share").reindex(domains)
        planners = list(dict.fromkeys(table["planner"]))
        for place, planner in enumerate(planners):
            at = np.arange(len(wide)) + (place - 1) * 0.27
            look = fill(place)
            axes.bar(
                at, wide[planner], width=0.25, label=_words(planner),
                facecolor=look.facecolor, hatch=look.hatch, **EDGE,
            )  # fmt: skip
        axes.axhline(1 / 8, color="black", linestyle=(0, (3, 2)), linewidth=0.9)
        axes.set_xticks(np.arange(len(wide)), domains)
        axes.grid(axis="x", visible=False)
        axes.set_title(title)
    panels[0].set_ylabel("Largest GPU's share of a\nbatch; dashed: even (1/8)")
    legend(sheet, panels[0], 3)


def _used(table: pd.DataFrame, column: str, value: str) -> list[str]:
    """The categories with any amount worth a bar, in the order of ``FACES``."""
    sums = table.groupby(column, sort=False)[value].sum()
    worth = set(sums[sums > 1e-3 * sums.sum()].index)
    return [name for name in FACES if name in worth]


def _stacks(axes: Axes, wide: pd.DataFrame, names: Sequence[str]) -> None:
    left = np.zeros(len(wide))
    for name in names:
        width = wide[name].fillna(0.0).to_numpy() if name in wide else np.zeros(len(wide))
        look = face(name)
        axes.barh(
            np.arange(len(wide)), width, left=left, height=0.75, label=_words(name),
            facecolor=look.facecolor, hatch=look.hatch, **EDGE,
        )  # fmt: skip
        left = left + width
    axes.set_xlim(0, 1.03 * max(axes.get_xlim()[1], float(left.max())))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def _words(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))


def legend(sheet: Figure, axes: Axes, columns: int) -> None:
    """One legend below all panels, from those of ``axes``."""
    handles, labels = axes.get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False,
                 fontsize=9, handleheight=1.3)  # fmt: skip
