"""How far single assumptions move the answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moesim.report.drawing.style import fill

SHOWN = (
    "lm.static_over_dense_latency",
    "lm.dynamic_over_static.1_node",
    "mt_encoder.dynamic_over_static.1_node",
    "mt_decoder.dynamic_over_static.1_node",
    "mt_decoder.dynamic_over_static.4_nodes",
    "mt_decoder.buffering_over_static.1_node",
)
MOST = 7
"""Assumptions in a panel: those that move the answer most."""


def swings(sensitivity: pd.DataFrame, base: dict[str, float]) -> pd.DataFrame:
    """``id``, ``parameter``, ``low``, ``simulated`` and ``high`` over the parameter's range alone,
    from a table of ``id``, ``parameter``, ``value``, ``simulated``; the widest first.
    """
    grouped = sensitivity.groupby(["id", "parameter"], sort=False)["simulated"]
    table = grouped.agg(low="min", high="max").reset_index()
    table.insert(3, "simulated", table["id"].map(base))
    table["low"] = table[["low", "simulated"]].min(axis=1)
    table["high"] = table[["high", "simulated"]].max(axis=1)
    order = (table["high"] - table["low"]).sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def sensitivity(table: pd.DataFrame, sheet: Figure) -> None:
    """A panel an answer: from the least to the most that each assumption makes of it."""
    sheet.set_size_inches(12.5, 6.0)
    for axes, name in zip(np.ravel(sheet.subplots(2, 3)), SHOWN, strict=True):
        _panel(axes, name, table[table["id"] == name].head(MOST))


def _panel(axes: Axes, name: str, part: pd.DataFrame) -> None:
    if part.empty:
        return
    places, face = np.arange(len(part)), fill(0)
    axes.barh(
        places, part["high"] - part["low"], left=part["low"], height=0.6,
        facecolor=face.facecolor, edgecolor="#333333", linewidth=0.5,
    )  # fmt: skip
    for base in part["simulated"].head(1):
        axes.axvline(base, color="black", linewidth=0.9)
    axes.set_yticks(places, list(part["parameter"]), fontsize=8.5)
    room = 0.06 * float(part["high"].max() - part["low"].min())
    axes.set_xlim(float(part["low"].min()) - room, float(part["high"].max()) + room)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Ratio; line: at the defaults")
    axes.set_title(name, fontsize=9.5)
