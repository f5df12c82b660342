"""A user's table of what a share of gate weight in a lower format does to answers."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from moesim.config.errors import InputError, Problem
from moesim.config.files.inputs import files_read, read_input, tell
from moesim.config.files.paths import find
from moesim.config.text import decoded
from moesim.experiment.schema.experiment import Experiment

SHARE = "lowered_share"


@dataclass(frozen=True)
class QualityTable:
    """What ``name``, a perplexity or an accuracy, is at each of the ``shares``, ascending."""

    name: str
    shares: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, share: float) -> float | None:
        """The value at ``share``, in a straight line between neighbours; None beyond the ends."""
        if not self.shares[0] <= share <= self.shares[-1]:
            return None
        return float(np.interp(share, self.shares, self.values))


def quality_of(table: QualityTable | None, summary: dict[str, Any]) -> dict[str, Any]:
    """What ``table``, if there is one, says of a run with this ``summary``: the value at its
    ``lowered_share``, and what is not in it.
    """
    if table is None:
        return {}
    share = summary.get(SHARE) or 0.0
    value = table.at(share)
    notes = []
    if value is None:
        notes.append(f"the table ends before the run's {share:.1%} in a worse format")
    left_out = {"skips": "skipped_share", "drops": "dropped_share", "cuts": "cut_share"}
    for verb, key in left_out.items():
        if summary.get(key):
            notes.append(f"the run also {verb} {summary[key]:.1%}, which is not in the table")
    return {"quality": {table.name: value}, **({"quality_notes": notes} if notes else {})}


def read_quality(experiment: Experiment) -> QualityTable | None:
    """The table that ``experiment`` names, if it does; an InputError with the line where it is
    none.
    """
    if experiment.quality is None:
        return None
    name = experiment.quality.table
    path = find(name, experiment.folders)
    with files_read() as files:
        text = read_input(path)
    tell("quality", name, files)
    return _parsed(path, decoded(text, str(path)).splitlines())


def _parsed(path: Path, lines: list[str]) -> QualityTable:
    reader = csv.reader(lines)
    try:
        rows = list(reader)
    except csv.Error as error:
        what = f"is no row of a table ({error}); write a share and a value a line"
        raise InputError([Problem(f"{path}:{reader.line_num}", "", what)]) from None
    head = [word.strip() for word in rows[0]] if rows else []
    if len(head) != 2 or head[0] != SHARE or not head[1]:  # noqa: PLR2004
        what = f"begins with '{','.join(head)}'; write '{SHARE},perplexity', or what you measured"
        raise InputError([Problem(f"{path}:1", "", what)])
    pairs: list[tuple[float, float]] = []
    for number, row in enumerate(rows[1:], 2):
        if row:
            pairs.append(_pair(f"{path}:{number}", row))
            if len(pairs) > 1 and pairs[-1][0] <= pairs[-2][0]:
                what = f"share {row[0].strip()} does not follow the one before; let shares ascend"
                raise InputError([Problem(f"{path}:{number}", "", what)])
    if not pairs:
        raise InputError([Problem(str(path), "", "has no rows; write a share and a value a line")])
    return QualityTable(head[1], *zip(*pairs, strict=True))


def _pair(where: str, row: list[str]) -> tuple[float, float]:
    try:
        share, value = map(float, row)
    except ValueError:
        share, value = -1.0, 0.0
    if not (0 <= share <= 1 and isfinite(value)):
        what = f"'{','.join(row)}' is no share from 0 to 1 and a number; write 0.25,5.31"
        raise InputError([Problem(where, "", what)])
    return share, value
