"""How far a profile's prices are from measured times."""

from __future__ import annotations

import numpy as np
import pandas as pd
from rich.table import Table

from moesim.calibrate.columns import SHAPES
from moesim.calibrate.price import price_table
from moesim.calibrate.validate import LINE
from moesim.hardware.profile import HardwareProfile

WORST = 10
MOST = 40
SIZE = {"moe": "tokens", "gemm": "m", "attention_prefill": "context", "attention_decode": "context"}
"""The column that is an op's size; ``bytes`` for the others."""


def compare(profile: HardwareProfile, table: pd.DataFrame, method: str = "auto") -> pd.DataFrame:
    """The table with ``price_ns``, ``price_source``, ``outside``, ``ratio`` (price over measured),
    ``error_percent``, ``size`` and ``shape`` (the other shape columns, as text).
    """
    prices = price_table(profile, table, method)
    ratio = prices.price_ns / table["latency_ns"].to_numpy(float)
    compared = table.assign(
        price_ns=prices.price_ns,
        price_source=prices.price_source,
        outside=prices.outside,
        ratio=ratio,
        error_percent=np.abs(ratio - 1) * 100,
    )
    parts = [_described(part) for _, part in compared.groupby("op", sort=True)]
    return pd.concat(parts).sort_index()


def _described(part: pd.DataFrame) -> pd.DataFrame:
    op = str(part["op"].iloc[0])
    size = SIZE.get(op, "bytes" if "bytes" in SHAPES[op] else "")
    names = ["dtype", *(name for name in SHAPES[op] if name != size)]
    texts = pd.Series("", index=part.index)
    for name in names:
        values = part[name].astype(object)
        texts += values.map(lambda v: "" if pd.isna(v) else _short(v)) + " "
    sizes = part[size] if size else 1
    return part.assign(shape=texts.str.strip(), size=sizes)


def _short(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def error_tables(compared: pd.DataFrame) -> list[Table]:
    """Errors by op and source, by shape, by size, and the worst ten."""
    sized = compared.assign(
        band=2 ** np.floor(np.log2(compared["size"].astype(float).clip(lower=1))).astype(int)
    )
    return [
        _errors("by op", compared, ["op", "price_source", "outside"]),
        _errors("by shape", compared, ["op", "shape"]),
        _errors("by size (from)", sized, ["op", "band"]),
        _worst(compared),
    ]


def _errors(title: str, compared: pd.DataFrame, columns: list[str]) -> Table:
    table = Table(title=f"error {title}, percent")
    for name in (*columns, "points", "median", "p90", "largest"):
        table.add_column(name)
    groups = list(compared.groupby(columns, sort=True)["error_percent"])
    for key, errors in groups[:MOST]:
        numbers = (errors.median(), errors.quantile(0.9), errors.max())
        cells = [*map(str, key), str(len(errors)), *(f"{number:.2f}" for number in numbers)]
        table.add_row(*cells)
    if len(groups) > MOST:
        table.caption = f"{len(groups) - MOST} more rows are not shown"
    return table


def _worst(compared: pd.DataFrame) -> Table:
    table = Table(title=f"the worst {WORST}")
    for name in ("line", "op", "shape", "size", "measured us", "price us", "price/measured"):
        table.add_column(name)
    worst = compared.assign(off=np.abs(np.log(compared["ratio"]))).nlargest(WORST, "off")
    for _, row in worst.iterrows():
        times = (row["latency_ns"] / 1e3, row["price_ns"] / 1e3, row["ratio"])
        cells = (row[LINE], row["op"], row["shape"], f"{row['size']:.0f}")
        table.add_row(*map(str, cells), *(f"{number:.4g}" for number in times))
    return table
