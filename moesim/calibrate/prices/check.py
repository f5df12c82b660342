"""How far a profile's prices are from measured times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.calibrate.prices.price import price_table
from moesim.hardware.measurements.columns import SHAPES
from moesim.hardware.measurements.validate import LINE, flag
from moesim.hardware.profile import HardwareProfile

LEAN: Any = {"box": SIMPLE_HEAD, "pad_edge": False, "show_edge": False, "padding": (0, 1, 0, 0)}
WORST = 10
MOST = 40
SIZE = {
    "moe": "tokens",
    "gemm": "m",
    "attention_prefill": "context",
    "attention_decode": "context",
    "cpu_expert": "tokens",
    "gate": "tokens",
    "permute": "tokens",
}
"""The column that is an op's size; ``bytes`` for copies and collectives."""


def compare(profile: HardwareProfile, table: pd.DataFrame, method: str = "auto") -> pd.DataFrame:
    """The table with ``price_ns``, ``price_source``, ``outside``, ``ratio`` (price over measured),
    ``error_percent``, ``size``, ``shape`` (the other shape columns, as text) and ``operands``
    (whether they came from the cache).
    """
    prices = price_table(profile, table, method)
    ratio = prices.price_ns / table["latency_ns"].to_numpy(float)
    compared = table.assign(
        price_ns=prices.price_ns,
        price_source=prices.price_source,
        outside=prices.outside,
        ratio=ratio,
        error_percent=np.abs(ratio - 1) * 100,
        operands=np.where(flag(table, "l2_warm", default=False), "warm", "cold"),
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
        texts += values.map(lambda v, name=name: "" if pd.isna(v) else _short(name, v)) + " "
    sizes = part[size] if size else 1
    return part.assign(shape=texts.str.strip(), size=sizes)


def _short(name: str, value: object) -> str:
    text = f"{value:.0f}" if isinstance(value, float) else str(value)
    return text if name == "dtype" else f"{name.replace('_', ' ')} {text}"


def error_tables(compared: pd.DataFrame) -> list[Table]:
    """Errors by op and source, by shape, by size, and the worst ten."""
    sized = compared.assign(
        band=2 ** np.floor(np.log2(compared["size"].astype(float).clip(lower=1))).astype(int)
    )
    return [
        _errors("by op", compared, ["op", "price_source", "outside", "operands"]),
        _errors("by shape", compared, ["op", "shape"]),
        _errors("by size (from)", sized, ["op", "band"]),
        _worst(compared),
    ]


def _errors(title: str, compared: pd.DataFrame, columns: list[str]) -> Table:
    table = Table(title=f"error {title}, percent", **LEAN)
    for name in (*columns, "points", "median", "p90", "max"):
        table.add_column(name.removeprefix("price_"), overflow="fold", no_wrap=name != "shape")
    groups = list(compared.groupby(columns, sort=True)["error_percent"])
    for key, errors in groups[:MOST]:
        numbers = (errors.median(), errors.quantile(0.9), errors.max())
        cells = [*map(str, key), str(len(errors)), *(f"{number:.2f}" for number in numbers)]
        table.add_row(*cells)
    if len(groups) > MOST:
        table.caption = f"{len(groups) - MOST} more rows are not shown"
    return table


def _worst(compared: pd.DataFrame) -> Table:
    table = Table(title=f"the worst {WORST}", **LEAN)
    for name in ("line", "op", "shape", "size", "measured\nus", "price\nus", "price /\nmeasured"):
        table.add_column(name, overflow="fold", no_wrap=name != "shape")
    worst = compared.assign(off=np.abs(np.log(compared["ratio"]))).nlargest(WORST, "off")
    for _, row in worst.iterrows():
        times = (row["latency_ns"] / 1e3, row["price_ns"] / 1e3, row["ratio"])
        cells = (row[LINE], row["op"], row["shape"], f"{row['size']:.0f}")
        table.add_row(*map(str, cells), *(f"{number:.4g}" for number in times))
    return table
