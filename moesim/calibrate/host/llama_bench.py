"""What llama-bench wrote: the table that it prints, or the rows of ``-o json`` or ``jsonl``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.config.files.files import read_file
from moesim.config.text import decoded

_TEST = re.compile(r"(?:pp(?P<n_prompt>\d+))?\+?(?:tg(?P<n_gen>\d+))?(?: *@ *d(?P<n_depth>\d+))?")
_NAMES = {"model": "model_type", "threads": "n_threads"}
"""Columns of the table that ``-o json`` calls otherwise."""
_BILLION = " B"


def bench_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows under the names of ``-o json``, of a table those that it has; an InputError where
    the file is neither.
    """
    text = decoded(read_file(path, "file of llama-bench"), str(path))
    if any(_cells(line) for line in text.splitlines()):
        yield from _of_table(text)
        return
    try:
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        what = f"is neither the table that llama-bench prints nor its JSON (-o json): {error}"
        raise InputError([Problem(str(path), "", what)]) from None
    yield from (row for row in rows if isinstance(row, dict))


def _cells(line: str) -> list[str]:
    """Of a line of a table in Markdown; none of another line."""
    inner = line.strip()
    if not (inner.startswith("|") and inner.endswith("|")):
        return []
    return [cell.strip() for cell in inner.strip("|").split("|")]


def _of_table(text: str) -> Iterator[dict[str, Any]]:
    head: list[str] = []
    for cells in filter(None, map(_cells, text.splitlines())):
        if "t/s" in cells:
            head = cells
        elif len(cells) == len(head) and not all(set(cell) <= set("-:") for cell in cells):
            yield _row(dict(zip(head, cells, strict=True)))


def _row(cells: dict[str, str]) -> dict[str, Any]:
    """A row of a table, whose columns are those that differ from llama-bench's defaults."""
    named = {_NAMES.get(name, name): _number(cell) for name, cell in cells.items()}
    test = _TEST.fullmatch(cells.get("test", ""))
    counts = {name: int(told or 0) for name, told in test.groupdict().items()} if test else {}
    billions = str(cells.get("params", "")).removesuffix(_BILLION)
    known = _number(billions)
    parameters = {} if isinstance(known, str) else {"n_params": known * 1e9}
    speed = cells["t/s"].partition("±")[0].strip()
    return {**named, **counts, **parameters, "avg_ts": _number(speed)}


def _number(cell: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
