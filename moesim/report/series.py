"""Which columns of a sweep are its axes, and how its lines are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moesim.report.components import in_words
from moesim.sweep.identity import read_axes
from moesim.sweep.table import read_points

CAPACITY = "experts.capacity"
POLICY = "experts.policy.kind"


@dataclass(frozen=True)
class Sweep:
    """A sweep's table and the paths of its axes, in the order of the experiment."""

    table: pd.DataFrame
    axes: tuple[str, ...]

    @property
    def varying(self) -> tuple[str, ...]:
        """The axes with more than one value."""
        return tuple(a for a in self.axes if len(set(self.table[a].astype(str))) > 1)

    def ok(self) -> pd.DataFrame:
        """The points that ran to their end."""
        return self.table[self.table["status"] == "ok"]

    def labels(self, without: Sequence[str] = ()) -> pd.Series[str]:
        """What distinguishes each point, in words, apart from the axes ``without``."""
        axes = [axis for axis in self.varying if axis not in without]
        rows = (
            zip(*(self.table[axis] for axis in axes), strict=True)
            if axes
            else [()] * len(self.table)
        )
        words = [", ".join(map(word, axes, row)) for row in rows]
        return pd.Series(words, index=self.table.index, dtype="str")


def read_sweep(folder: Path) -> Sweep:
    """The sweep in ``folder``; an InputError where it is none or not finished."""
    return Sweep(read_points(folder), tuple(dict.fromkeys(k for p in read_axes(folder) for k in p)))


def word(axis: str, value: object) -> str:
    """``value`` with its axis' name where it needs one: `lru`, `batch size 16`, `no chunk`."""
    if pd.api.types.is_scalar(value) and pd.isna(value):  # type: ignore[call-overload]
        return f"no {axis.rsplit('.', 1)[-1].replace('_', ' ')}"
    text = f"{value:g}" if isinstance(value, float) else in_words(value)
    says_itself = isinstance(value, str) and not value.replace(".", "").isdigit()
    return text if says_itself else f"{axis.rsplit('.', 1)[-1].replace('_', ' ')} {text}"


def slots(table: pd.DataFrame) -> pd.Series[float]:
    """Expert slots per MoE layer and GPU of each point; missing where nobody knows."""
    known = numbers(table, "slots_per_layer")
    typed = table[CAPACITY].astype(str).str.extract(r"^(\d+) slots/layer$")[0].astype(float)
    return known.fillna(typed)


def numbers(table: pd.DataFrame, column: str) -> pd.Series[float]:
    """``column`` as floats; missing where the table lacks it or its value."""
    if column not in table.columns:
        return pd.Series(np.nan, index=table.index)
    return table[column].astype("float64")


def throughput(table: pd.DataFrame) -> pd.Series[float]:
    """The tokens a second of each point: decoded ones, or processed ones where none decodes.

    The series' name says which and is a key of ``THROUGHPUTS``.
    """
    output = numbers(table, "output_throughput")
    if (output > 0).any():
        return output.rename("output_throughput_tokens_per_s")
    return processed(table)


def processed(table: pd.DataFrame) -> pd.Series[float]:
    """The tokens a second of each point, those of prompts and those decoded."""
    speed = numbers(table, "tokens") * 1e3 / numbers(table, "duration_ms")
    return speed.rename("processed_throughput_tokens_per_s")


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


THROUGHPUTS = {
    "output_throughput_tokens_per_s": "Output throughput (tokens/s)",
    "processed_throughput_tokens_per_s": "Throughput, prompts included (tokens/s)",
}
"""The columns that a throughput stands in, and what their axis says."""

INTERVALS = {
    "output_throughput_tokens_per_s": "output_throughput",
    "processed_throughput_tokens_per_s": "total_token_throughput",
}
"""The interval of each in a summary."""


def throughput_column(table: pd.DataFrame) -> str:
    """The column of ``table`` that holds its throughput."""
    return next(name for name in THROUGHPUTS if name in table.columns)
