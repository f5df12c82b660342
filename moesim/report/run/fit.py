"""Expert slots against context length: the terminal's table, and the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError
from moesim.report.amounts import number
from moesim.report.drawing.style import RC, line_style, save_figure

SUFFIXES = (".png", ".svg")
Rows = Sequence[Mapping[str, int]]


def table(rows: Rows, local: int, of: str = "") -> Table:
    """The rows of ``experiment.questions.fit.slots_by_context``; ``local`` experts a layer; ``of``
    which layers, behind the title.
    """
    shown = Table(
        title=f"slots beside the KV cache{of}",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    titles = f"slots/layer\nof {local}", "resident\nGiB", "KV\nGiB", "or layers\non the CPU"
    for name in ("batch", "context", *titles):
        shown.add_column(name, justify="right")
    last = None
    for row in rows:
        slots, batch = row["slots_per_layer"], row["batch"]
        sizes = (f"{row[name] / GIB:.2f}" for name in ("resident_bytes", "kv_bytes"))
        on_cpu = "-" if row["cpu_layers"] is None else str(row["cpu_layers"])
        cells = (number(row["context_tokens"]), str(slots or "none"), *sizes, on_cpu)
        shown.add_row("" if batch == last else str(batch), *cells)
        last = batch
    return shown


def batches(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of ``experiment.questions.fit.memory_by_batch``, categories that are 0 left out."""
    parts = [name for name in rows[0] if name.endswith("_bytes") and any(r[name] for r in rows)]
    shown = Table(title="memory of the fullest GPU, in GiB", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("batch", *(name.removesuffix("_bytes").replace("_", "\n") for name in parts), ""):
        shown.add_column(name, justify="right")
    for row in rows:
        sizes = (f"{row[name] / GIB:.2f}" for name in parts)
        shown.add_row(str(row["batch"]), *sizes, "fits" if row["fits"] else "too much")
    return shown


def draw(rows: Rows, local: int, path: Path) -> Path:
    """Draw the rows into ``path`` and return it: a line a batch, down to 0 where nothing fits."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path.suffix not in SUFFIXES:
        raise InputError(f"--out '{path}': a figure is one of {', '.join(SUFFIXES)}")
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Figure(figsize=(5.6, 3.8), layout="constrained")
        FigureCanvasAgg(sheet)
        axes = sheet.subplots()
        batches = pd.DataFrame(rows).groupby("batch", sort=False)
        for place, (batch, part) in enumerate(batches):
            style = line_style(place)
            axes.plot(
                part["context_tokens"], part["slots_per_layer"], label=f"batch {batch}",
                color=style.color, marker=style.marker, linestyle=style.linestyle,
            )  # fmt: skip
        axes.axhline(local, color="black", linewidth=0.7)
        axes.set_xscale("log", base=2)
        ticks = sorted({row["context_tokens"] for row in rows})
        axes.set_xticks(ticks, [number(tick) for tick in ticks], rotation=45, ha="right")
        axes.set(ylim=(-0.5, local * 1.06), xlabel="Context of every request (tokens)")
        axes.set_ylabel(f"Expert slots per MoE layer (all: {local})")
        axes.set_title("Expert slots that fit beside the KV cache")
        axes.legend()
        save_figure(sheet, path)
    return path
