"""Requests of BurstGPT (HPMLL/BurstGPT, CC-BY-4.0)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from moesim.workload.arrivals.base import SECOND
from moesim.workload.arrivals.files import FileArrivals, Line, instant_at, table_of, tokens_at


class BurstGpt(FileArrivals):
    """A CSV file with Timestamp (s), Request tokens and Response tokens."""

    kind: Literal["burstgpt"] = "burstgpt"

    def lines(self, path: Path, text: str) -> Iterator[Line]:
        """See ``FileArrivals``; requests that failed, without a response, are left out, as by
        vLLM's client.
        """
        columns = ("Timestamp", "Request tokens", "Response tokens")
        for where, row in table_of(path, text, columns):
            if row[columns[2]] != "0":
                yield Line(
                    where,
                    instant_at(where, row, columns[0], SECOND),
                    tokens_at(where, row, columns[1]),
                    tokens_at(where, row, columns[2]),
                )
