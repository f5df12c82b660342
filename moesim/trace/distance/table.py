"""Distances as a table for people."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

from moesim.config.counted import counted

_TENTH, _NUMBERS = 10, ("first", "second", "distance", "halves")


def table(result: dict[str, Any]) -> Table:
    """The table of ``compare``'s result."""
    tokens, requests = result["tokens"], result["requests"]
    caption = (
        f"{result['phase']} tokens: {tokens[0]} of {counted(requests[0], 'request')},"
        f" {tokens[1]} of {requests[1]}; halves: every other request of the first trace"
    )
    shown = Table(title="Distance between two traces", caption=caption, box=box.HORIZONTALS)
    shown.add_column("measure", no_wrap=True)
    for name in _NUMBERS:
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("unit", no_wrap=True)
    for row in result["measures"]:
        numbers = (_number(row[name]) for name in _NUMBERS)
        shown.add_row(row["measure"], *numbers, row["unit"])
    return shown


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) >= _TENTH else f"{value:.4f}"
