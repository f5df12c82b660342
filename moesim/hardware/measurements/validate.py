"""Which rows of a measurement table can be, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from moesim.config.errors import nearest
from moesim.hardware.described.precision import UNITS
from moesim.hardware.measurements.columns import (
    COLUMNS,
    COUNTS,
    FLAGS,
    SHAPES,
    WEIGHTLESS,
    short_dtype,
)
from moesim.hardware.measurements.row_lists import group_largest, row_lists
from moesim.hardware.prices.arrays import group_sums

LINE = "_line"
"""The column in which a table's lines are kept while it is in memory."""
DISAGREE = 1.3
"""Two times of one shape that differ by more than this factor cannot both be right."""
LARGEST_COUNT = 2**50
LARGEST_EXPERTS = 2**16
LARGEST_WORK = 2.0**58
"""Elements of weights, and products of a kernel's rows: more leave the 64-bit integers."""
Mask = NDArray[np.bool_]


class Finding(NamedTuple):
    """A row that was left out: its line, and what is wrong with it."""

    line: int
    what: str


def normalised(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with short dtype names; what a column means where it is absent is left out."""
    table = frame.copy(deep=False)
    if "dtype" in table.columns:
        names = table["dtype"]
        known = {name: short_dtype(str(name)) for name in names.dropna().unique()}
        table["dtype"] = names.map(known)
    else:
        table["dtype"] = None
    return table


def valid(frame: pd.DataFrame, timed: bool = True) -> tuple[pd.DataFrame, list[Finding]]:
    """The rows that can be, normalised, and what is wrong with the others, by line.

    ``timed``: whether ``latency_ns`` is needed.
    """
    table = normalised(frame)
    findings: dict[int, str] = {}
    wrong = np.zeros(len(table), bool)
    for mask, what in _checks(table, timed):
        new = mask & ~wrong
        lines = table[LINE].to_numpy()[new]
        texts = what[new] if isinstance(what, np.ndarray) else [what] * len(lines)
        findings |= {int(line): str(text) for line, text in zip(lines, texts, strict=True)}
        wrong |= mask
    found = [Finding(line, what) for line, what in sorted(findings.items())]
    kept = table[~wrong].reset_index(drop=True)
    for name in (name for name in (*COUNTS, "latency_ns") if name in kept.columns):
        if not pd.api.types.is_numeric_dtype(kept[name]):
            kept[name] = pd.to_numeric(kept[name], errors="coerce")
    return kept, found


def _checks(table: pd.DataFrame, timed: bool) -> Iterator[tuple[Mask, Any]]:
    yield from _names(table)
    ops = table["op"].to_numpy(object)
    for name in COUNTS:
        needed = np.isin(ops, [op for op, shape in SHAPES.items() if name in shape])
        yield from _count(table, name, needed)
    for name in (flag for flag in FLAGS if flag in table.columns):
        values = table[name]
        yield (
            (values.notna() & ~values.isin([True, False])).to_numpy(bool),
            f"'{name}' is neither true nor false",
        )
    yield from _experts(table)
    if timed:
        attention = table["op"].isin(["attention_prefill", "attention_decode"]).to_numpy(bool)
        shared = number(table, "heads") % number(table, "kv_heads") > 0
        yield attention & shared, "'heads' are no multiple of 'kv_heads'"
        yield from _times(table)


def _names(table: pd.DataFrame) -> Iterator[tuple[Mask, Any]]:
    ops, dtypes = table["op"], table["dtype"]
    unknown = ~ops.isin(list(SHAPES))
    yield unknown.to_numpy(bool), _told(ops, unknown, "op", SHAPES)
    weightless = ops.isin(list(WEIGHTLESS))
    yield (dtypes.isna() & ~weightless).to_numpy(bool), "has no 'dtype'"
    strange = dtypes.notna() & ~dtypes.isin(list(UNITS)) & ~weightless
    yield strange.to_numpy(bool), _told(dtypes, strange, "dtype", UNITS)


def _told(
    names: pd.Series[Any], wrong: pd.Series[bool], what: str, allowed: Iterable[str]
) -> NDArray[np.object_]:
    """What is wrong with the names where they are ``wrong``, as an array as long as ``names``."""
    texts = np.full(len(names), "", object)
    for name in names[wrong].unique():
        here = (names == name).to_numpy(bool) if pd.notna(name) else names.isna().to_numpy(bool)
        texts[here] = f"'{name}' is no {what}; {nearest(str(name), allowed)}"
    return texts


def _count(table: pd.DataFrame, name: str, needed: Mask) -> Iterator[tuple[Mask, Any]]:
    if name not in table.columns:
        yield needed, f"has no '{name}'"
        return
    values = pd.to_numeric(table[name], errors="coerce")
    given = table[name].notna().to_numpy(bool)
    yield needed & ~given, f"has no '{name}'"
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    with np.errstate(invalid="ignore"):
        fine = (numbers >= 1) & (numbers == np.floor(numbers)) & (numbers < LARGEST_COUNT)
    huge = numbers >= LARGEST_COUNT
    yield given & huge, f"'{name}' is too large; less than {LARGEST_COUNT:,} is allowed"
    yield given & ~fine, f"'{name}' is not a whole number above 0"


def _experts(table: pd.DataFrame) -> Iterator[tuple[Mask, Any]]:
    moe = (table["op"] == "moe").to_numpy(bool)
    if not moe.any():
        return
    tokens, experts, top_k = (number(table, name) for name in ("tokens", "experts", "top_k"))
    yield moe & (top_k > experts), "'top_k' is above 'experts'"
    hidden, inter = number(table, "hidden"), number(table, "inter")
    widest = hidden * inter * np.maximum(experts, tokens * top_k)
    large = (widest > LARGEST_WORK) | (experts > LARGEST_EXPERTS)
    yield moe & large, "the shape is too large to be one"
    if "distinct_experts" in table.columns:
        distinct = number(table, "distinct_experts")
        yield moe & (distinct > experts), "'distinct_experts' is above 'experts'"
        yield (
            moe & (distinct > tokens * top_k),
            "'distinct_experts' is above tokens x top_k, the rows there are",
        )
    if "rows" in table.columns:
        lists = row_lists(table)
        sums = group_sums(lists.counts, lists.members)
        most = group_largest(lists.counts, lists.members)
        bad = (lists.members > experts) | (sums != tokens * top_k) | (most > tokens)
        yield (
            moe & (lists.malformed | ((lists.members > 0) & bad)),
            "'rows' are not up to 'experts' numbers up to 'tokens' that sum to tokens x top_k",
        )


def _times(table: pd.DataFrame) -> Iterator[tuple[Mask, Any]]:
    if "latency_ns" not in table.columns:
        yield np.ones(len(table), bool), "has no 'latency_ns'"
        return
    values = pd.to_numeric(table["latency_ns"], errors="coerce").to_numpy(np.float64)
    yield ~np.isfinite(values), "'latency_ns' is not a number"
    with np.errstate(invalid="ignore"):
        yield values < 0, "'latency_ns' is negative"
        yield values == 0, "'latency_ns' is zero"
    yield _disagreeing(table, values), "the same shape is there again with another time"


def _disagreeing(table: pd.DataFrame, latency: NDArray[np.float64]) -> Mask:
    """Rows whose shape, kernel and source are there again with a time beyond ``DISAGREE``."""
    keys = [name for name in table.columns if name not in ("latency_ns", LINE)]
    lists = [name for name in keys if name not in COLUMNS or name == "rows"]
    table = table.assign(**{name: [_text(value) for value in table[name]] for name in lists})
    times = pd.Series(np.where(np.isfinite(latency) & (latency > 0), latency, np.nan))
    groups = times.groupby([table[key].reset_index(drop=True) for key in keys], dropna=False)
    ratio = groups.transform("max") / groups.transform("min")
    return np.asarray((ratio > DISAGREE).to_numpy(bool))


def _text(rows: Any) -> str:
    return " ".join(map(str, rows)) if isinstance(rows, (list, tuple, np.ndarray)) else str(rows)


def number(table: pd.DataFrame, name: str, default: float = np.nan) -> NDArray[np.float64]:
    """A column as float64, ``default`` where it says nothing."""
    if name not in table.columns:
        return np.full(len(table), default)
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isnan(values), default, values)


def flag(table: pd.DataFrame, name: str, default: bool = True) -> Mask:
    """A column of true and false, ``default`` where it says nothing."""
    return np.asarray(number(table, name, float(default)) != 0, bool)
