"""All packs of evidence in one table, for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.config.files.files import write_whole
from moesim.report.judged.published import amounts, is_time

TABLE, PAGE = "overview.csv", "overview.md"
HEADS = ("what", "runs", "median error", "p90", "inside the stated 90 % range", "order of pairs")
NONE = "-"
LARGE = 1000


def cells(overview: pd.DataFrame) -> list[tuple[str, ...]]:
    """A row each, as ``HEADS`` says."""
    return [
        (
            str(row["what"]), str(row["runs"]), _percent(row["median_percent"]),
            _percent(row["p90_percent"]), _part(row["inside"], row["ranged"]),
            _part(row["right"], row["pairs"]) + _equal(row["equal_pairs"]),
        )
        for row in overview.to_dict("records")
    ]  # fmt: skip


def markdown(overview: pd.DataFrame) -> list[str]:
    """The lines of a table."""
    rows = [" | ".join(row) for row in (HEADS, *cells(overview))]
    head, *others = (f"| {row} |" for row in rows)
    return [head, "|" + "---|" * len(HEADS), *others]


def lines(overview: pd.DataFrame) -> list[str]:
    """What has no prediction, and why, a line a pack."""
    rows = zip(overview["what"], overview["no_prediction"], strict=True)
    return [f"no prediction, {what}: {why}" for what, why in rows if why]


def short_table(table: pd.DataFrame) -> list[str]:
    """Markdown: a line a run of a pack's table, its measured and predicted speed (or time in ms)
    and the error.
    """
    heads = ["run", "measured", "predicted", "range", "error of the time"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in table.to_dict("records"):
        found = amounts(row)
        told = [_digits(one) for one in found]
        if is_time(row):
            measured, predicted, low, high = found
            told = [f"{_ms(measured)} ms", f"{_ms(predicted)} ms", _ms(low), _ms(high)]
        span = f"{told[2]} to {told[3]}" if found[2] < found[3] else NONE
        error = f"{row['error_percent']:+.0f} %"
        lines.append(f"| {' | '.join([str(row['run']), *told[:2], span, error])} |")
    return lines


def terminal_table(overview: pd.DataFrame) -> Table:
    """A row a pack."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column(HEADS[0], overflow="fold")
    for name in HEADS[1:]:
        shown.add_column(name, justify="right")
    for row in cells(overview):
        shown.add_row(*row)
    return shown


def write_overview(
    overview: pd.DataFrame, folder: Path, beside: Mapping[str, pd.DataFrame] | None = None
) -> list[Path]:
    """Write the table into ``folder``, as CSV and for a page, and the tables ``beside`` it by the
    names of their files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    every = {TABLE: overview, **(beside or {})}
    for name, one in every.items():
        write_whole(folder / name, one.to_csv(index=False, lineterminator="\n"))
    told = [f"- {line}" for line in lines(overview)]
    page = [*markdown(overview), *([""] if told else []), *told]
    write_whole(folder / PAGE, "\n".join(page) + "\n")
    return [*(folder / name for name in every), folder / PAGE]


def _ms(time: float) -> str:
    """Four digits."""
    return f"{time:.4g}" if time < LARGE else f"{time:.0f}"


def _digits(value: float) -> str:
    """Four of them, thousands apart."""
    return f"{float(f'{value:.4g}'):,g}"


def _percent(value: float) -> str:
    return NONE if pd.isna(value) else f"{value:.0f} %"


def _equal(pairs: int) -> str:
    """Those that were measured to be equal are in no order."""
    return f", {pairs} equal" if pairs else ""


def _part(right: int, every: int) -> str:
    return f"{right} of {every} ({100 * right / every:.0f} %)" if every else NONE
