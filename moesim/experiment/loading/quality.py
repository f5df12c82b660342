"""A user's table of what a share of gate weight in a lower format does to answers."""

from __future__ import annotations

import csv
from collections.abc import Mapping
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


LEFT_OUT = {"skipped": "skips", "substituted": "substitutes"}


def lost_beside(summary: Mapping[str, Any]) -> list[str]:
    """What a run with this ``summary`` loses that no table of ``lowered_share`` is of, as ``cuts
    38.5 %``.
    """
    fates = summary.get("gate_weight_shares") or {}
    if fates.get("full") is None:  # the trace has no weights
        fates = summary.get("choice_shares") or {}
    shares = {verb: fates.get(fate) for fate, verb in LEFT_OUT.items()}
    shares["skips"] = summary.get("skipped_share") or shares["skips"]
    shares |= {"drops": summary.get("dropped_share"), "cuts": summary.get("cut_share")}
    found = [f"{verb} {_percent(share)}" for verb, share in shares.items() if share]
    if not shares["cuts"] and summary.get("gate_weight_lost", 0.0) is None:
        found.append("may lose gate weight by its routing, of which the trace says nothing")
    return found


def _percent(share: float) -> str:
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"  # noqa: PLR2004


def quality_of(table: QualityTable | None, summary: dict[str, Any]) -> dict[str, Any]:
    """What ``table``, if there is one, says of a run with this ``summary``: the value at its
    ``lowered_share``; None with a note why where the table ends before, or something else is lost.
    """
    if table is None:
        return {}
    share = summary.get(SHARE) or 0.0
    value, notes = table.at(share), []
    if value is None:
        notes.append(f"the table ends before the run's {_percent(share)} in a worse format")
    if beside := lost_beside(summary):
        value = None
        what = f"the run {' and '.join(beside)}, and the table is of worse formats alone"
        notes.append(f"{table.name} is not known: {what}")
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
