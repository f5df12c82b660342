"""The folder of the rebuilt study: table, figures with their data, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from moesim.config.counted import counted
from moesim.config.files.files import write_whole
from moesim.report.drawing.style import RC, save_figure
from moesim.report.page.told import Told, ToldTable, write_told
from moesim.report.reference_study import bars, lines
from moesim.report.reference_study.sensitivity import sensitivity, swings
from moesim.report.reference_study.text import TITLES, report
from moesim.reproduce.missing import MISSING
from moesim.reproduce.run import Found
from moesim.reproduce.table import sensitivity_of, table_of

Draw = Callable[[pd.DataFrame, Figure], None]
FIGURES: Mapping[str, Draw] = MappingProxyType({
    "latency_breakdown": bars.latency_breakdown,
    "throughput_over_batch": lines.throughput_over_batch,
    "memory": bars.memory,
    "miss_rate_over_slots": lines.miss_rate_over_slots,
    "load_by_planner": bars.load_by_planner,
    "memory_and_latency": lines.memory_and_latency,
    "sensitivity": sensitivity,
})  # fmt: skip


def write_study(found: Found, folder: Path) -> pd.DataFrame:
    """Write ``table.csv``, ``sensitivity.csv``, ``figures`` and ``report.md``; returns the
    table.
    """
    table, moved = table_of(found.answers, MISSING), sensitivity_of(found.answers)
    base = dict(zip(table["id"], table["simulated"], strict=True))
    data = {name: pd.DataFrame(rows) for name, rows in found.curves.items()}
    data["sensitivity"] = swings(moved, base)
    _write_csv(table, folder / "table.csv")
    _write_csv(moved, folder / "sensitivity.csv")
    drawn = [name for name in FIGURES if name in data and len(data[name])]
    for name in drawn:
        save(name, data[name], folder / "figures")
    text = report(found.values, table, data["sensitivity"], drawn)
    write_whole(folder / "report.md", text)
    write_told(_told(table, drawn), folder)
    return table


def _told(table: pd.DataFrame, drawn: Sequence[str]) -> Told:
    known = table.dropna(subset="published")
    outside = int(known["note"].str.contains("outside the range").sum())
    verdict = (
        f"{len(known) - outside} of {counted(len(known), 'published number')} lie between low and "
        f"high; of {len(table) - len(known)} further answers the study's is not known."
    )
    return Told(
        kind="study",
        title="Towards MoE Deployment (arXiv 2303.06182), rebuilt by mechanism",
        setting="nothing is fitted to a result of the study; low and high: one assumption changed",
        verdict=[verdict],
        board=ToldTable(title="Answers", file="table.csv", axes=["id", "setting"]),
        tables=[ToldTable(title="Each answer under each change", file="sensitivity.csv")],
        figures={f"figures/{name}.svg": TITLES[name] for name in drawn},
    )


def save(name: str, table: pd.DataFrame, folder: Path) -> None:
    """Draw the figure ``name`` as PNG and SVG, with the table beside them."""
    _write_csv(table, folder / f"{name}.csv")
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Figure(layout="constrained")
        FigureCanvasAgg(sheet)
        FIGURES[name](table, sheet)
        for suffix in ("png", "svg"):
            save_figure(sheet, folder / f"{name}.{suffix}")


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    write_whole(path, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
