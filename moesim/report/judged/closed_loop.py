"""The closed loop's tables, verdict and figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.report.drawing.style import FACES, IDLE, RC, save_figure

SUFFIXES = (".png", ".svg")
WIDTH = 0.38
KEYS = ["batch", "slots"]
PARTS = {
    "attention, head": "attention", "gate": "gate", "host": "host", "experts": "experts",
    "weights": "waiting_for_weights",
}  # fmt: skip
"""The category of time whose face a part has; the rest of the parts has no category."""
WHAT_IT_SHOWS = {
    "cpu": "on a CPU: this tests moesim's clock and bookkeeping; it says nothing of its accuracy"
    " for a GPU",
    "cuda": "launches of kernels are not in the simulated time; what they take is in 'host' and"
    " the small parts",
}


def tables(compared: pd.DataFrame, parts: pd.DataFrame) -> list[Table]:
    """All settings, and where their time goes; milliseconds a token, measured and simulated."""
    whole = Table(title="ms a token", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    columns = ("batch", "slots", "measured", "simulated", "error %", "noise %", "hits", "misses")
    for name in columns:
        whole.add_column(name, justify="right")
    for row in compared.to_dict("records"):
        hits, misses = _both(row, "hits"), _both(row, "misses")
        numbers = (f"{row['measured_ms']:.3f}", f"{row['simulated_ms']:.3f}")
        errors = (f"{row['error_percent']:+.1f}", f"{row['noise_percent']:.1f}")
        whole.add_row(str(row["batch"]), _slots(row), *numbers, *errors, hits, misses)
    return [whole, _parts_table(parts)]


def _both(row: dict[object, object], name: str) -> str:
    measured, simulated = row[f"measured_{name}"], row[f"simulated_{name}"]
    return f"{measured}" if measured == simulated else f"{measured}, simulated {simulated}"


def _slots(row: dict[object, object]) -> str:
    return f"{row['slots']} ({row['slots_percent']} %)"


def _parts_table(parts: pd.DataFrame) -> Table:
    names = list(parts["part"].unique())
    table = Table(title="ms a token by part", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (*KEYS, "", *names):
        table.add_column(name.replace(", ", "\n"), justify="right", no_wrap=True)
    for _, group in parts.groupby(KEYS, sort=False):
        first = group.iloc[0]
        for kind in ("measured", "simulated"):
            keys = (str(first[key]) if kind == "measured" else "" for key in KEYS)
            table.add_row(*keys, kind, *(f"{ms:.3f}" for ms in group[f"{kind}_ms"]))
    return table


def verdict(compared: pd.DataFrame, device: str) -> Iterator[str]:
    """The decisions, the largest error, and what it means."""
    equal = compared["decisions_equal"].all()
    yield "hits and misses: " + ("equal in every step and layer" if equal else "DIFFERENT")
    worst = compared.sort_values("error_percent", key=abs).iloc[-1]
    yield (
        f"largest error of ms a token: {worst['error_percent']:+.1f} % (batch {worst['batch']},"
        f" {counted(int(worst['slots']), 'slot')} a layer; noise {worst['noise_percent']:.1f} %)"
    )
    yield WHAT_IT_SHOWS[device]


def draw(compared: pd.DataFrame, parts: pd.DataFrame, path: Path) -> Path:
    """Draw measured beside simulated, stacked by part, a panel a batch, into ``path``."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"--out '{path}': a figure is one of {', '.join(SUFFIXES)}")
    batches = list(compared["batch"].unique())
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Figure(figsize=(1.5 + 4 * len(batches), 4.2), layout="constrained")
        FigureCanvasAgg(sheet)
        panels = sheet.subplots(1, len(batches), squeeze=False, sharey=True)[0]
        for axes, batch in zip(panels, batches, strict=True):
            rows = compared[compared["batch"] == batch].reset_index(drop=True)
            _panel(axes, rows, parts[parts["batch"] == batch])
            axes.set_title(f"batch {batch}: measured left, simulated right")
        panels[0].set_ylabel("Time (ms a token)")
        handles, labels = panels[0].get_legend_handles_labels()
        sheet.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False)
        save_figure(sheet, path)
    return path


def _panel(axes: Axes, rows: pd.DataFrame, parts: pd.DataFrame) -> None:
    for place, slots in enumerate(rows["slots"]):
        mine = parts[parts["slots"] == slots]
        for side, column in ((-1, "measured_ms"), (1, "simulated_ms")):
            bottom = 0.0
            for name, height in zip(mine["part"], mine[column], strict=True):
                look = FACES[PARTS[name]] if name in PARTS else IDLE
                axes.bar(
                    place + side * WIDTH / 2, height, WIDTH, bottom, facecolor=look.facecolor,
                    hatch=look.hatch, edgecolor="#333333", linewidth=0.5,
                    label=str(name) if place == 0 and side < 0 else None,
                )  # fmt: skip
                bottom += height
    for place, row in enumerate(rows.to_dict("records")):
        top = max(row["measured_ms"], row["simulated_ms"])
        axes.annotate(
            f"{row['error_percent']:+.1f} %", (place, top), (0, 3), textcoords="offset points",
            ha="center", fontsize=9,
        )  # fmt: skip
    labels = [f"{row['slots']} ({row['slots_percent']} %)" for row in rows.to_dict("records")]
    axes.set_xticks(range(len(rows)), labels)
    axes.set_xlabel("Expert slots a layer")
    axes.grid(axis="x", visible=False)
