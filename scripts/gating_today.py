"""Print the tables of docs/gating_today.md and draw its figures from the sweeps that it makes.

``python scripts/gating_today.py``; reads ``results/gating-today``, writes ``docs/figures``.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from moesim.report.drawing.style import RC, face
from moesim.sweep.found import read_sweep

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path("results/gating-today")
BATCH = "workload.batching.batch_size"
CAUSES = ("attention", "gate", "dispatch_combine", "experts", "waiting_for_gpus")
SYSTEMS = (("gpt_oss", 8), ("gpt_oss", 32), ("deepseek", 32))
MODELS = {"gpt_oss": "gpt-oss-120b", "deepseek": "DeepSeek-V3"}
HEAD = (
    "| gating | kernels | requests | tokens/s | experts % | all-to-all % | attention % | gate % "
    "| waiting % | waste | dropped % | peak GiB |\n" + "|---" * 12 + "|"
)


def points(model: str, phase: str, gpus: int) -> pd.DataFrame:
    """The points of one sweep that ran to their end, labelled."""
    table = read_sweep(RESULTS / f"{model}_{phase}_{gpus}").table
    table = table[table["status"] == "ok"].reset_index(drop=True)
    names = table["gating"].map(lambda gating: " ".join(map(str, json.loads(gating).values())))
    top_k = 4 if model == "gpt_oss" else 8
    layers = table["layer_steps"] / table["steps"]
    dropped = 100 * table["dropped_choices"] / (table["tokens"] * layers * top_k)
    return table.assign(label=names, dropped=dropped, step_ms=table["duration_ms"] / table["steps"])


def row(point: pd.Series) -> str:
    """A line of a table."""
    shares = ("experts", "dispatch_combine", "attention", "gate", "waiting_for_gpus")
    cells = [
        f"`{point['label']}`",
        point["experts.kernels"],
        str(point.get(BATCH, "-")),
        f"{point['total_token_throughput']:,.0f}",
        *(f"{100 * point[f'time_share.{cause}']:.0f}" for cause in shares),
        f"{point['waste_factor']:.1f}",
        f"{point['dropped']:.1f}",
        f"{point['peak_memory_bytes'] / 2**30:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def draw(phase: str, requests: int | None) -> None:
    """Milliseconds of a forward pass by cause, a panel for each model and machine."""
    figure, panels = plt.subplots(1, len(SYSTEMS), figsize=(11, 4.4), sharey=True)
    for axes, (model, gpus) in zip(panels, SYSTEMS, strict=True):
        table = points(model, phase, gpus)
        table = table[table["experts.kernels"] == "grouped"]
        if requests:
            table = table[table[BATCH] == requests]
        bars(axes, table)
        axes.set_title(f"{MODELS[model]}, {gpus} H100")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(f"docs/figures/gating_today_{phase}.png", metadata={"Software": "moesim"})


def bars(axes: Axes, table: pd.DataFrame) -> None:
    """One panel: bars from the top, the time of the pass, and what is dropped."""
    places, left = np.arange(len(table)), np.zeros(len(table))
    longest = table["step_ms"].max()
    for cause in CAUSES:
        width = (table[f"time_share.{cause}"] * table["step_ms"]).to_numpy()
        look = face(cause)
        label = cause.replace("_", " ").replace("gpus", "GPUs").replace("h c", "h, c")
        axes.barh(
            places, width, 0.75, left, label=label, linewidth=0.5,
            facecolor=look.facecolor, hatch=look.hatch, edgecolor="#333333",
        )  # fmt: skip
        left += width
    for place, (time, lost) in enumerate(zip(table["step_ms"], table["dropped"], strict=True)):
        drop = f", drops {lost:.0f} %" if lost else ""
        axes.text(time + 0.02 * longest, place, f"{time:,.0f} ms{drop}", va="center", fontsize=8)
    axes.set_yticks(places, table["label"])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlim(0, 1.45 * longest)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Time of a forward pass (ms)")


def main() -> None:
    """Both phases."""
    mpl.rcParams.update(dict(RC))  # type: ignore[arg-type]
    for phase in ("decode", "prefill"):
        for model, gpus in SYSTEMS:
            print(f"\n{MODELS[model]}, {gpus} GPUs, {phase}\n\n{HEAD}")
            for _, point in points(model, phase, gpus).iterrows():
                print(row(point))
        draw(phase, 2048 if phase == "decode" else None)


if __name__ == "__main__":
    main()
