"""By how much the best point of a sweep beats the next."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from moesim.metrics.intervals import speed_difference
from moesim.report.amounts import number
from moesim.report.comparison.intervals import measured, sentence
from moesim.report.drawing.style import KNOWS
from moesim.sweep.found import Sweep
from moesim.sweep.kinds import models
from moesim.sweep.speeds import COST, GOOD_COST, losses_in_words, numbers, ranked

NAMED = 3
"""So many points that are as fast as the best are named."""


def best_lines(sweep: Sweep, *, allow_drops: bool = False) -> list[str]:
    """The fastest point of ``sweep`` against the next, in a sentence, and the cheapest.

    Points that know the future are passed over, and those that leave out choices unless
    ``allow_drops``; where one of either is faster, that is a sentence of its own.
    """
    speed = ranked(sweep.table, allow_drops=allow_drops)
    told = [*_line(sweep, speed), *_faster(sweep, speed, allow_drops=allow_drops)]
    return [*told, *_cheapest(sweep, speed)]


def best_so_far(sweep: Sweep) -> str:
    """The fastest point that is known and its interval, in short; nothing where there is none, or
    where requests set how fast.
    """
    best = sweep.best()
    if best is None or sweep.kept_up.to_dict()[best.name]:
        return ""
    row = best.dropna()
    names = [name for name in ("output_throughput", "total_token_throughput") if row.get(name)]
    if not names:
        return ""
    low, high = (row.get(f"intervals.{names[0]}.{side}") for side in ("low", "high"))
    limits = "" if low is None or high is None else f" [{number(low, 3)}, {number(high, 3)}]"
    label = sweep.labels().to_dict()[best.name]
    return f"best: {label}{', ' if label else ''}{number(row[names[0]])} tokens/s{limits}"


def _faster(sweep: Sweep, speed: pd.Series[float], *, allow_drops: bool) -> Iterator[str]:
    """What is faster than the first of ``speed``, and why it is passed over."""
    drops = ranked(sweep.table, allow_drops=True)
    known = ranked(sweep.table, allow_drops=allow_drops, offline=True)
    for every in (drops, known):
        if len(every) and every.index[0] not in speed.index:
            at = every.index[0]
            why = KNOWS
            if every is drops:
                why = losses_in_words(sweep.table.loc[[at]], told=True)
            against = f" against {number(speed.iloc[0])}" if len(speed) else ""
            fast = f"{number(every[at])} tokens/s{against}"
            yield f"faster, but {why}: {sweep.labels()[at]}, {fast}"


def _cheapest(sweep: Sweep, speed: pd.Series[float]) -> Iterator[str]:
    """Of the points of ``speed`` the one with the least dollars a token, of good ones where clients
    are promised something; nothing where there is nothing to choose, or there are several models.
    """
    of = GOOD_COST if GOOD_COST in sweep.table else COST
    cost = numbers(sweep.table, of)[speed.index].dropna().sort_values(kind="stable")
    if len(cost) and len(speed) > 1 and len(set(models(sweep.table, sweep.experiment))) == 1:
        what = "good tokens" if of == GOOD_COST else "output tokens"
        dollars = f"{number(cost.iloc[0], 3)} $ a million {what}"
        yield f"cheapest: {sweep.labels()[cost.index[0]]}, {dollars}"


def _line(sweep: Sweep, speed: pd.Series[float]) -> list[str]:
    """The two fastest of ``speed``, named by the axes in which they differ, and what is as fast as
    the first; nothing where requests set how fast.
    """
    slower = speed.index[speed < speed.max()]
    tied = speed.index[1 : len(speed) - len(slower)]
    if len(speed) < 2 or sweep.kept_up[speed.index[0]]:  # noqa: PLR2004
        return []
    if not len(slower):
        return [f"all {len(speed)} are as fast: what they differ in changes nothing here"]
    best = [speed.index[0], slower[0]]
    first, second = (measured(sweep.folder, int(number)) for number in best)
    apart = speed_difference(first[0], second[0], (first[1], second[1]))
    if apart is None:
        return []
    texts = sweep.table.loc[best, list(sweep.varying)].astype(str)
    common = [axis for axis in sweep.varying if len(set(texts[axis])) == 1]
    drops = {at: losses_in_words(sweep.table.loc[[at]]) for at in best}
    names = sweep.labels(without=common)
    where = sweep.labels(without=[axis for axis in sweep.varying if axis not in common])[best[0]]
    words = [f"{names[at]} ({drops[at]})" if drops[at] else names[at] for at in best]
    told = sentence(words[0], words[1], apart)
    return [f"after the warm-up{', ' if where else ''}{where}: {told}", *_same(sweep, tied)]


def _same(sweep: Sweep, tied: pd.Index[int]) -> list[str]:
    """The points that are as fast as the best."""
    names = [sweep.labels()[at] for at in tied]
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return [f"as fast as the best: {'; '.join([*names[:NAMED], *more])}"] if names else []
