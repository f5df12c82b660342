"""What figures read from a sweep's table."""

from __future__ import annotations

import pandas as pd

from moesim.report.figures.base import CAPACITY
from moesim.sweep.speeds import THROUGHPUTS, numbers, processed, throughput


def slots(table: pd.DataFrame) -> pd.Series[float]:
    """Expert slots per MoE layer and GPU of each point; missing where nobody knows."""
    known = numbers(table, "slots_per_layer")
    typed = table[CAPACITY].astype(str).str.extract(r"^(\d+) slots/layer$")[0].astype(float)
    return known.fillna(typed)


def throughputs(table: pd.DataFrame) -> pd.DataFrame:
    """The tokens a second as a column, of all tokens where prompts are among them; and where a
    point has one, its interval as the columns ``low_`` and ``high_`` before its name.
    """
    prompts = numbers(table, "total_token_throughput") > numbers(table, "output_throughput")
    speed = processed(table) if prompts.any() else throughput(table)
    limits = {
        f"{side}_{speed.name}": numbers(table, f"intervals.{INTERVALS[str(speed.name)]}.{side}")
        for side in ("low", "high")
    }
    known = {name: limit for name, limit in limits.items() if limit.notna().any()}
    return pd.DataFrame({str(speed.name): speed, **known})


INTERVALS = {
    "output_throughput_tokens_per_s": "output_throughput",
    "processed_throughput_tokens_per_s": "total_token_throughput",
}
"""The interval of each in a summary."""


def throughput_column(table: pd.DataFrame) -> str:
    """The column of ``table`` that holds its throughput."""
    return next(name for name in THROUGHPUTS if name in table.columns)
