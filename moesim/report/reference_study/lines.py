"""Figures of lines: throughput over batch size, misses over slots, memory against latency."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moesim.config.counted import counted
from moesim.report.drawing.style import KNOWS, OFFLINE, OFFLINE_POLICY, line_style, sizes
from moesim.report.reference_study.bars import TASKS, legend

NAMED = (1, 2, 4, 8, 10, 12, 16)
"""Slots that are named beside the point."""


def throughput_over_batch(table: pd.DataFrame, sheet: Figure) -> None:
    """Sentences a second up to the largest batch that fits; a panel a task."""
    sheet.set_size_inches(11.5, 3.4)
    panels = sheet.subplots(1, len(TASKS))
    for axes, (task, title) in zip(panels, TASKS.items(), strict=True):
        part = table[table["task"] == task]
        for number, gating in enumerate(dict.fromkeys(part["gating"])):
            line, style = part[part["gating"] == gating], line_style(number)
            axes.plot(
                line["batch"], line["sentences_per_s"], label=gating,
                color=style.color, marker=style.marker, linestyle=style.linestyle,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(part["batch"]))))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("Batch (sentences a GPU)")
        axes.set_title(title)
    panels[0].set_ylabel("Throughput of 8 GPUs\n(sentences/s)")
    legend(sheet, panels[0], 3)


def miss_rate_over_slots(table: pd.DataFrame, sheet: Figure) -> None:
    """Misses over activations, a line a policy."""
    sheet.set_size_inches(5.4, 3.6)
    axes = sheet.subplots()
    for number, policy in enumerate(dict.fromkeys(table["policy"])):
        line = table[table["policy"] == policy]
        style = OFFLINE if policy == OFFLINE_POLICY else line_style(number)
        axes.plot(
            line["slots"], 100 * line["miss_rate"], label=_policy(str(policy)),
            color=style.color, marker=style.marker, linestyle=style.linestyle,
        )  # fmt: skip
    axes.set_xticks(sorted(set(table["slots"])))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Expert slots a layer and GPU (of 16)")
    axes.set_ylabel("Needed experts missing (%)")
    axes.legend(frameon=False)


def memory_and_latency(table: pd.DataFrame, sheet: Figure) -> None:
    """What fewer slots save, and what that costs."""
    sheet.set_size_inches(5.8, 3.8)
    axes = sheet.subplots()
    policies = list(dict.fromkeys(table["policy"]))
    for number, policy in enumerate(policies):
        line, style = table[table["policy"] == policy], line_style(number)
        axes.plot(
            line["weights_gib"], line["latency_ms"], label=_policy(str(policy)),
            color=style.color, marker=style.marker, linestyle=style.linestyle,
            **sizes(number, len(policies)),
        )  # fmt: skip
    first = table[table["policy"] == policies[0]]
    for slots, x, y in zip(first["slots"], first["weights_gib"], first["latency_ms"], strict=True):
        if slots in NAMED:
            axes.annotate(
                counted(int(slots), "slot"), (x, y), xytext=(3, 8), textcoords="offset points",
                ha="left", fontsize=8,
            )  # fmt: skip
    axes.set_ylim(0, 1.1 * float(table["latency_ms"].max()))
    axes.set_xlabel("Weights on a GPU (GiB)")
    axes.set_ylabel("Time to decode a batch (ms)")
    axes.legend(frameon=False)


def _policy(name: str) -> str:
    return f"MIN ({KNOWS})" if name == OFFLINE_POLICY else name.upper()
