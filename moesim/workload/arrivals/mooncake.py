"""Requests of Mooncake's traces (kvcache-ai/Mooncake, Apache-2.0), which say which prompts begin
alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from moesim.config.errors import InputError, Problem
from moesim.workload.arrivals.files import (
    FileArrivals,
    Line,
    instant_at,
    objects_of,
    tokens_at,
    whole_at,
)

BLOCK_TOKENS, MILLISECOND = 512, 1_000_000
MOST_ID = (1 << 63) - 1


class Mooncake(FileArrivals):
    """JSON lines with timestamp (ms), input_length, output_length and hash_ids."""

    kind: Literal["mooncake"] = "mooncake"

    def lines(self, path: Path, text: str) -> Iterator[Line]:
        """See ``FileArrivals``; an id is of 512 tokens, or of as many as ``block_size`` says."""
        for where, row in objects_of(path, text):
            ids = row.get("hash_ids", [])
            if not isinstance(ids, list) or not all(
                type(one) is int and 0 <= one <= MOST_ID for one in ids
            ):
                what = "hash_ids is no list of whole numbers from 0 on"
                raise InputError([Problem(where, "", what)])
            size = whole_at(where, {"block_size": BLOCK_TOKENS, **row}, "block_size", 1, 1 << 20)
            yield Line(
                where,
                instant_at(where, row, "timestamp", MILLISECOND),
                tokens_at(where, row, "input_length"),
                tokens_at(where, row, "output_length"),
                ids=ids,
                block_tokens=size,
            )
