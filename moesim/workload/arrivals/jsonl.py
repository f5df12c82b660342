"""Requests, or sessions of them, of JSON lines as LLMServingSim reads them (the keys are from
memory of its documentation).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from moesim.config.errors import InputError, Problem
from moesim.workload.arrivals.files import FileArrivals, Line, instant_at, objects_of, tokens_at


class Jsonl(FileArrivals):
    """JSON lines with arrival_time_ns, input_toks and output_toks, or sub_requests of a session."""

    kind: Literal["jsonl"] = "jsonl"

    def lines(self, path: Path, text: str) -> Iterator[Line]:
        """See ``FileArrivals``. Of a session each request after the first comes when the answer
        before is there, and ``tool_duration_ns`` later.
        """
        for where, row in objects_of(path, text):
            instant: int | None = instant_at(where, row, "arrival_time_ns", 1)
            think = 0
            for part in _parts(where, row):
                yield Line(
                    where,
                    instant,
                    tokens_at(where, part, "input_toks"),
                    tokens_at(where, part, "output_toks"),
                    think_ns=think,
                )
                given = {"tool_duration_ns": part.get("tool_duration_ns", 0)}
                instant, think = None, instant_at(where, given, "tool_duration_ns", 1)


def _parts(where: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The requests of a line: it, or those of its session."""
    parts = row.get("sub_requests", [row])
    if not isinstance(parts, list) or not parts or not all(isinstance(one, dict) for one in parts):
        what = "sub_requests is no list of requests; write at least one"
        raise InputError([Problem(where, "", what)])
    return parts
