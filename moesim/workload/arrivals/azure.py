"""Requests of Azure's traces of language models (AzurePublicDataset, CC-BY-4.0)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from moesim.config.errors import InputError, Problem
from moesim.workload.arrivals.files import FileArrivals, Line, table_of, tokens_at


class Azure(FileArrivals):
    """A CSV file with TIMESTAMP, ContextTokens and GeneratedTokens."""

    kind: Literal["azure"] = "azure"

    def lines(self, path: Path, text: str) -> Iterator[Line]:
        """See ``FileArrivals``; the time is a date, to 100 ns."""
        columns = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
        for where, row in table_of(path, text, columns):
            yield Line(
                where,
                _instant(where, row[columns[0]]),
                tokens_at(where, row, columns[1]),
                tokens_at(where, row, columns[2]),
            )


def _instant(where: str, text: str | None) -> int:
    """Of a date in UTC, in ns since 1970."""
    plain = (text or "").strip().removesuffix("+00:00").replace(" ", "T")
    try:
        instant = int(np.datetime64(plain, "ns").astype(np.int64)) if plain[:1].isdigit() else -1
    except ValueError:
        instant = -1
    if instant < 0:
        what = f"TIMESTAMP is '{text}'; write a date and a time, as 2023-11-16 18:17:03.9799600"
        raise InputError([Problem(where, "", what)])
    return instant
