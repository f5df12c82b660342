"""Requests of a table with Vidur's columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from moesim.workload.arrivals.base import SECOND
from moesim.workload.arrivals.files import (
    FileArrivals,
    Line,
    instant_at,
    table_of,
    tokens_at,
    whole_at,
)

MOST_PRIORITY = 1 << 31


class Csv(FileArrivals):
    """A CSV file with arrived_at (s), num_prefill_tokens, num_decode_tokens, perhaps priority."""

    kind: Literal["csv"] = "csv"

    def lines(self, path: Path, text: str) -> Iterator[Line]:
        """See ``FileArrivals``; a smaller priority is sooner."""
        columns = ("arrived_at", "num_prefill_tokens", "num_decode_tokens")
        for where, row in table_of(path, text, columns):
            given = {"priority": row.get("priority") or "0"}
            yield Line(
                where,
                instant_at(where, row, columns[0], SECOND),
                tokens_at(where, row, columns[1]),
                tokens_at(where, row, columns[2]),
                priority=whole_at(where, given, "priority", -MOST_PRIORITY, MOST_PRIORITY),
            )
