"""Numbers, bytes and shares as tables show them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moesim.config.amounts.sizes import GIB

LEAST_GIB = 0.005
SCALES = {"%": 100.0, "GiB": 1 / GIB}
"""Of a unit how many of it a ratio of 1, or a byte, is."""
UNITS = {
    "tokens_per_s": "tokens/s", "_percent": " %", "_ms": " ms", "_bytes": " bytes", "_": " ",
}  # fmt: skip


def number(value: Any, digits: int = 4) -> str:
    """``value`` with ``digits`` significant ones and thousands separated; a dash for none."""
    if value is None or pd.isna(value):
        return "-"
    if isinstance(value, int) or (float(value).is_integer()):
        return f"{int(value):,}"
    small = abs(value) < 10**digits
    return f"{float(value):#.{digits}g}".rstrip(".") if small else f"{float(value):,.0f}"


def gib(value: Any) -> str:
    """Bytes in GiB, those that would be 0.00 of it in MiB."""
    if value is None or pd.isna(value):
        return "-"
    size = float(value) / GIB
    return f"{size * 1024:.3g} MiB" if 0 < abs(size) < LEAST_GIB else f"{size:.2f} GiB"


def percent(value: Any) -> str:
    """A ratio in percent."""
    return "-" if value is None or pd.isna(value) else f"{100 * float(value):.1f} %"


def in_unit(value: Any, heading: str) -> float | None:
    """A ratio or bytes in the unit that ``heading`` ends with, any other number as it is."""
    scale = SCALES.get(heading.rsplit(maxsplit=1)[-1], 1.0)
    return None if value is None or pd.isna(value) else float(value) * scale


def span(low: Any, high: Any) -> str:
    """``2.04-4.21``; a dash for none."""
    return "-" if pd.isna(low) or pd.isna(high) else f"{number(low, 3)}-{number(high, 3)}"


def heading(name: str) -> str:
    """A column's name with its unit as people write it."""
    for suffix, unit in UNITS.items():
        name = name.replace(suffix, unit)
    return name.strip()
