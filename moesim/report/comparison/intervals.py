"""How far two runs are apart, with its interval, in a table and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from moesim.metrics.blocks import Blocks
from moesim.metrics.intervals import (
    RATIOS,
    Difference,
    Prices,
    difference,
    leaves_out_0,
    speed_difference,
)
from moesim.results.blocks import read_blocks
from moesim.sweep.point import point_folder
from moesim.sweep.table import summary_of

BLOCKS = {"batch": "batches", "steps": "blocks"}
COLUMNS = (
    "key", "unit", "difference", "low", "high", "price_low", "price_high", "paired", "blocks",
    "verdict",
)  # fmt: skip
BY_PRICES = "not distinguishable by such prices"
VERDICTS = ("different", "not distinguishable", BY_PRICES)
"""What is said of a difference that has an interval."""
NAMES = {
    "output_throughput": "output throughput",
    "total_token_throughput": "total token throughput",
    "mean_tpot_ms": "mean TPOT",
    "hit_ratio_per_expert": "hits of experts",
    "hit_ratio_per_access": "hits of accesses",
}


LIMITS = ("low", "high", "price_low", "price_high")


def differences_table(
    first: Blocks | None, second: Blocks | None, prices: Prices = (None, None)
) -> pd.DataFrame:
    """A row for each number with an interval that both runs have: the second over the first, whose
    ``price_interval`` are ``prices``.

    Columns ``COLUMNS``: in ``unit``, percent or percent points of a share.
    """
    if first is None or second is None:
        return pd.DataFrame(columns=list(COLUMNS), dtype=object)
    found = {name: difference(second, first, name, prices[::-1]) for name in RATIOS}
    if found["output_throughput"]:
        del found["total_token_throughput"]
    rows = [
        {
            "key": name,
            "unit": unit(name),
            "difference": one.value,
            **{key: getattr(one, key) for key in (*LIMITS, "paired", "blocks")},
            "verdict": verdict(one),
        }
        for name, one in found.items()
        if one is not None
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def unit(name: str) -> str:
    """What a difference of ``name`` is in."""
    return "points" if RATIOS[name].share else "%"


def verdict(one: Difference) -> str:
    """``different``, ``not distinguishable``, or why there is no interval."""
    if _within_prices(one):
        return BY_PRICES
    if one.reason:
        return one.reason
    return "different" if one.distinguishable else "not distinguishable"


def amount(one: Difference, what: str = "%") -> str:
    """``3.1 % [2.0, 4.2]``."""
    digits = 1 if max(abs(x or 0.0) for x in (one.low, one.high, one.value)) >= 1 else 2
    limits = "" if one.low is None else f" [{one.low:.{digits}f}, {one.high:.{digits}f}]"
    return f"{one.value:.{digits}f} {what}{limits}"


def sentence(first: str, second: str, one: Difference) -> str:
    """``A beats B by 3.1 % [2.0, 4.2]``, or that it cannot be told; ``one`` is of a number of which
    more is better, first over second.
    """
    if _within_prices(one):
        return f"{first} and {second} are {BY_PRICES}: {amount(one)} ({basis(one)})"
    if one.reason:
        told = _by_prices(one)
        return f"{first} over {second}: {amount(one)}; no interval: {one.reason}{told}"
    if not one.distinguishable:
        return f"{first} and {second} are not distinguishable: {amount(one)} ({basis(one)})"
    if one.value < 0:
        return f"{first} is slower than {second}: {amount(one)} ({basis(one)})"
    return f"{first} beats {second} by {amount(one)} ({basis(one)})"


def basis(one: Difference) -> str:
    """Of what the interval was made."""
    if not one.value and not one.low and not one.high:
        return f"equal over {one.blocks} {BLOCKS[one.kind]}"
    if one.reason:
        return f"no interval: {one.reason}{_by_prices(one)}"
    paired = "paired" if one.paired else "not paired"
    return f"95 %, {one.blocks} {BLOCKS[one.kind]}, {paired}{_by_prices(one)}"


def _within_prices(one: Difference) -> bool:
    """Whether the prices' errors alone leave open which is faster."""
    return not one.by_prices and bool(one.reason or leaves_out_0(one.low, one.high))


def _by_prices(one: Difference) -> str:
    """What the prices' errors leave, where they leave anything open."""
    if one.price_low is None or f"{one.price_low:.1f}" == f"{one.price_high:.1f}":
        return ""
    return f"; {limits_told(one.price_low, one.price_high, '.1f')} by the prices' errors"


def limits_told(low: float | None, high: float | None, form: str = "+.2f") -> str:
    """``[-1.00, +2.00]``; nothing where there is none."""
    return "" if pd.isna(low) else f"[{low:{form}}, {high:{form}}]"


def measured(folder: Path, number: int) -> tuple[Blocks | None, Mapping[str, Any] | None]:
    """The blocks and the ``price_interval`` of a point of a sweep."""
    prices = summary_of(folder, number).get("price_interval")
    return read_blocks(point_folder(folder, number)), prices


def paired_ratios(first: Path, second: Path, numbers: pd.DataFrame) -> pd.DataFrame:
    """Limits of the second's speed over the first's for the points of two sweeps: ``numbers`` holds
    their numbers in both folders, the result the columns ``ratio_low`` and ``ratio_high``.
    """
    rows = []
    for one, two in numbers.itertuples(index=False):
        of, base = measured(second, two), measured(first, one)
        found = speed_difference(of[0], base[0], (of[1], base[1]))
        rows.append(_as_ratios(asdict(found) if found else {}))
    return pd.DataFrame(rows, columns=["ratio_low", "ratio_high"], dtype="float64")


def _as_ratios(found: Mapping[str, Any]) -> dict[str, float]:
    limits = {f"ratio_{side}": found.get(side) for side in ("low", "high")}
    return {name: 1 + x / 100 for name, x in limits.items() if x is not None}
