"""A finished sweep: its table, its axes, its best point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from moesim.config.arguments import check_path
from moesim.config.counted import counted
from moesim.results.result import setting_in_words
from moesim.results.shown import Shown
from moesim.results.store import read_log
from moesim.sweep.identity import read_axes, read_sweep_file
from moesim.sweep.kinds import kinds
from moesim.sweep.speeds import kept_up, losses_in_words, ranked
from moesim.sweep.table import read_points, tabulate
from moesim.sweep.words import in_words, word

SHOWN = 8
"""Values of an axis that a sweep shows of itself."""


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Shown):
    """A sweep's ``table``, a row a point, and the paths of its ``axes``, in the experiment's order.

    Columns of the table: the axes by their paths, ``status``, ``reason``, then the keys of a
    summary, nested ones joined by dots. ``folder`` is where it stands.
    """

    table: pd.DataFrame
    axes: tuple[str, ...]
    folder: Path

    @property
    def varying(self) -> tuple[str, ...]:
        """The axes with more than one value."""
        return tuple(a for a in self.axes if len(set(self.table[a].astype(str))) > 1)

    def together(self, axis: str) -> tuple[str, ...]:
        """The axes that have one value at each value of ``axis``: they change with it."""
        texts = self.table[list(self.varying)].astype(str).groupby(self.table[axis].astype(str))
        alone = texts.nunique(dropna=False).max() == 1
        return tuple(other for other in self.varying if other != axis and alone[other])

    @property
    def experiment(self) -> dict[str, Any]:
        """The experiment that the points were made from, as plain values."""
        experiment = read_sweep_file(self.folder).get("experiment")
        return experiment if isinstance(experiment, dict) else {}

    @property
    def policies(self) -> pd.Series[str]:
        """The kind of each point's policy, an axis' or the experiment's own."""
        return kinds(self.table, "experts.policy", self.experiment)

    @property
    def kept_up(self) -> pd.Series[bool]:
        """Whether each point kept up with requests that came by the clock (``speeds.kept_up``)."""
        return kept_up(self.table, self.experiment)

    def ok(self) -> pd.DataFrame:
        """The points that ran to their end."""
        return self.table[self.table["status"] == "ok"]

    def best(self, *, allow_drops: bool = False) -> pd.Series[Any] | None:
        """The row of the point with the most tokens a second among those that dropped or
        skipped no choice (with ``allow_drops``: of all); None where none ran.
        """
        speed = ranked(self.table, allow_drops=allow_drops)
        return None if speed.empty else self.table.loc[speed.index[0]]

    def labels(self, without: Sequence[str] = ()) -> pd.Series[str]:
        """What distinguishes each point, in words, apart from the axes ``without``."""
        axes = [axis for axis in self.varying if axis not in without]
        rows = (
            zip(*(self.table[axis] for axis in axes), strict=True)
            if axes
            else [()] * len(self.table)
        )
        words = [", ".join(map(word, axes, row)) for row in rows]
        return pd.Series(words, index=self.table.index, dtype="str")

    def __repr__(self) -> str:
        counts = self.table["status"].value_counts()
        states = ", ".join(f"{n} {str(status).replace('_', ' ')}" for status, n in counts.items())
        experiment = self.experiment
        lines = [
            setting_in_words(experiment, without=self.varying),
            *(f"{axis}: {self._values_in_words(axis)}" for axis in self.varying),
            f"best: {self._best_in_words()}",
            f"folder: {self.folder}",
        ]
        head = f"Sweep {experiment.get('name')}: {counted(len(self.table), 'point')} ({states})"
        return "\n".join([head, *(f"  {line}" for line in lines if line)])

    def _values_in_words(self, axis: str) -> str:
        values = list(dict.fromkeys(in_words(value) for value in self.table[axis]))
        return ", ".join(values if len(values) <= SHOWN else [*values[:SHOWN], "..."])

    def _best_in_words(self) -> str:
        for allowed in (False, True):
            if len(speed := ranked(self.table, allow_drops=allowed)):
                at = speed.index[0]
                if self.kept_up[at]:
                    return "none, since requests come when they come, and the fastest keeps up"
                drops = losses_in_words(self.table.loc[[at]])
                label = self.labels()[at] or "its point"
                return f"{label}, {speed[at]:.4g} tokens/s{', ' if drops else ''}{drops}"
        return "no point ran to its end"


def read_finished(folder: Path | str) -> Sweep:
    """The points that are finished of the sweep in ``folder``, which may be going on; the index of
    its table has their numbers.
    """
    source = Path(folder)
    points, done = read_axes(source), read_log(source)
    numbers = sorted(number for number in done if number < len(points))
    table = tabulate([points[n] for n in numbers], [done[n].summary for n in numbers])
    table.index = pd.Index(numbers)
    axes = tuple(dict.fromkeys(key for point in points for key in point))
    return Sweep(table, axes, source)


def read_sweep(folder: Path | str) -> Sweep:
    """The sweep in ``folder``; an InputError where it is none or not finished."""
    check_path(folder)
    source = Path(folder)
    table = read_points(source)  # which says what the folder is, where it is no finished sweep
    axes = tuple(dict.fromkeys(key for point in read_axes(source) for key in point))
    return Sweep(table, axes, source)
