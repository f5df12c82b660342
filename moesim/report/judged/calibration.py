"""The figure of a calibration check: price over measured, and residuals over size."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from moesim.config.errors import InputError
from moesim.report.drawing.style import RC, save_figure

SUFFIXES = (".png", ".svg")
MARKERS = "osD^v<>PX*+xd"


def draw(compared: pd.DataFrame, path: Path) -> Path:
    """Draw a comparison (``moesim.calibrate.prices.check.compare``) into ``path`` and return it."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"--out '{path}': a figure is one of {', '.join(SUFFIXES)}")
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Figure(figsize=(9, 4.6), layout="constrained")
        FigureCanvasAgg(sheet)
        left, right = sheet.subplots(1, 2)
        for (op, part), marker in zip(compared.groupby("op", sort=True), cycle(MARKERS)):
            style = {"s": 9, "alpha": 0.5, "label": str(op), "marker": marker, "linewidths": 0.3}
            left.scatter(part["latency_ns"] / 1e3, part["price_ns"] / 1e3, **style)
            right.scatter(part["size"], part["ratio"], **style)
        ends = compared[["latency_ns", "price_ns"]].to_numpy(float) / 1e3
        left.plot([ends.min(), ends.max()], [ends.min(), ends.max()], color="black", linewidth=0.7)
        left.set(xscale="log", yscale="log", xlabel="measured (us)", ylabel="price (us)")
        right.axhline(1, color="black", linewidth=0.7)
        right.set(xscale="log", yscale="log", xlabel="tokens, context or bytes")
        right.set(ylabel="price / measured")
        sheet.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
        save_figure(sheet, path)
    return path
