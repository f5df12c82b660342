"""By how much the best point of a sweep beats the next."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moesim.metrics.intervals import speed_difference
from moesim.report.compare_intervals import sentence
from moesim.report.series import POLICY, Sweep, throughput
from moesim.results.blocks import read_blocks
from moesim.sweep.advise.choices import BOUND
from moesim.sweep.point import point_folder


def best_lines(folder: Path, sweep: Sweep) -> list[str]:
    """The fastest point of the sweep in ``folder`` against the next, in a sentence; once more
    without the bound ``min`` where that is one of the two.
    """
    speed = throughput(sweep.table)[sweep.table["status"] == "ok"].dropna()
    if POLICY not in sweep.varying:
        return _line(folder, sweep, speed)
    real = speed[sweep.table.loc[speed.index, POLICY] != BOUND]
    whole = _line(folder, sweep, speed)
    without = _line(folder, sweep, real)
    return whole if whole == without else [*whole, *(f"without {BOUND}: {x}" for x in without)]


def _line(folder: Path, sweep: Sweep, speed: pd.Series[float]) -> list[str]:
    """The two fastest of ``speed``, named by the axes in which they differ."""
    best = speed.sort_values(ascending=False, kind="stable").index[:2]
    if len(best) < 2:  # noqa: PLR2004
        return []
    apart = speed_difference(*(read_blocks(point_folder(folder, int(n))) for n in best))
    if apart is None:
        return []
    texts = sweep.table.loc[best, list(sweep.varying)].astype(str)
    common = [axis for axis in sweep.varying if len(set(texts[axis])) == 1]
    names = sweep.labels(without=common)
    where = sweep.labels(without=[axis for axis in sweep.varying if axis not in common])[best[0]]
    told = sentence(names[best[0]], names[best[1]], apart)
    return [f"{where}: {told}" if where else told]
