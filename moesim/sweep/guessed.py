"""Axes of a sweep that nobody chooses, as nobody measured what is on them."""

from __future__ import annotations

from typing import Any

import pandas as pd

GUESSED = ("hardware.host.expert_fraction",)
"""Their values are the range of one answer, and no choice."""


def middle_of(values: pd.Series[Any]) -> str:
    """The one in the middle, as text."""
    texts = set(values.dropna().astype(str))
    return sorted(texts, key=lambda one: (_number(one), one))[len(texts) // 2] if texts else ""


def _number(text: str) -> float:
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        return float("inf")


def in_the_middle(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether each point has the middle of everything that is guessed."""
    found = pd.Series(data=True, index=table.index)
    for axis in GUESSED:
        if axis in table.columns:
            found &= table[axis].astype(str) == middle_of(table[axis])
    return found
