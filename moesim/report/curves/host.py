"""Hits of host memory by its size: the terminal's table and sentences, and the figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError, Problem
from moesim.experiment.questions.host_curve import STEP, Cliff
from moesim.report.drawing.style import RC, save_figure, series_styles

ROWS = 14
MARKS = 8
SUFFIXES = (".png", ".svg")


def rendered(curve: pd.DataFrame, title: str) -> list[RenderableType]:
    """The table of ``moesim.host_curve`` at some sizes, then what it says."""
    return [_table(curve, title), *(Text(line) for line in sentences(curve))]


def sentences(curve: pd.DataFrame) -> Iterator[str]:
    """The cliff of each policy that a host can have, and what gives most of the gain."""
    for name, rows in _policies(curve):
        cliff = Cliff.of(rows)
        if name != "min":
            low, high = cliff.below / GIB, cliff.above / GIB
            yield (
                f"{name}: the cliff is at {low:.2f} to {high:.2f} GiB, where {STEP:.0%} more of all"
                f" experts hit {100 * cliff.gain:.0f} points more; 90% of what all memory gives at"
                f" {cliff.most / GIB:.2f} GiB"
            )


def _table(curve: pd.DataFrame, title: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    policies = dict(_policies(curve))
    first = next(iter(policies.values()))
    for heading in ("GiB", "experts", *(f"{name}\nhits %" for name in policies)):
        table.add_column(heading, justify="right")
    timed = not first["read_ms_per_token"].isna().all()
    own = f"{first['policy'].iloc[0]}, a token"
    table.add_column(f"reads\n{own}", justify="right")
    if timed:
        table.add_column(f"drive ms\n{own}", justify="right")
    for at in np.unique(np.linspace(0, len(first) - 1, ROWS).round().astype(int)):
        row = first.iloc[at]
        hits = (f"{100 * rows['hit_ratio'].iloc[at]:.1f}" for rows in policies.values())
        times = [f"{row['read_ms_per_token']:.1f}"] if timed else []
        cells = (f"{row['bytes'] / GIB:.2f}", f"{row['experts']:,}", *hits)
        table.add_row(*cells, f"{row['reads_per_token']:.1f}", *times)
    table.caption = "from empty memory; no token takes less than the drive's ms"
    return table


def check_path(path: Path) -> None:
    """Raise an InputError unless ``path`` can be a figure."""
    if path.suffix not in SUFFIXES or path.is_dir():
        what = f"'{path}' must be a file that ends in {' or '.join(SUFFIXES)}"
        raise InputError([Problem("--out", "", what)])


def draw(curve: pd.DataFrame, path: Path) -> Path:
    """Draw the curves into ``path`` and return it; the first policy's cliff is shaded."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_path(path)
    policies = dict(_policies(curve))
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Figure(figsize=(6.4, 4.0), layout="constrained")
        FigureCanvasAgg(sheet)
        axes = sheet.add_subplot()
        styles = series_styles({name: name for name in policies})
        for name, rows in policies.items():
            _line(axes, rows, name, styles[name])
        cliff = Cliff.of(next(iter(policies.values())))
        axes.axvspan(cliff.below / GIB, cliff.above / GIB, color="#dddddd", label="cliff")
        axes.set_xlabel("Host memory for experts (GiB)")
        axes.set_ylabel("Hits (% of what is wanted)")
        axes.set_ylim(0, 100)
        axes.legend(frameon=False, loc="lower right")
        save_figure(sheet, path, "--out")
    return path


def _line(axes: Any, rows: pd.DataFrame, name: str, style: Any) -> None:
    axes.plot(
        rows["bytes"] / GIB, 100 * rows["hit_ratio"], color=style.color, label=name,
        linestyle=style.linestyle, marker=style.marker, markevery=max(len(rows) // MARKS, 1),
    )  # fmt: skip


def _policies(curve: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for name in curve["policy"].unique():
        yield str(name), curve[curve["policy"] == name]
