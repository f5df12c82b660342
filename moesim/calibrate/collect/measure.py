"""The order of measuring: all points coarsely, then again and again while there is time.

One visit to a point prepares its operands, warms up and times a few calls. Visits go round all
points, so that a burst of other work on the machine spoils one visit of many points and not all
visits of one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from moesim.calibrate.collect.device import Device
from moesim.calibrate.collect.point import Point
from moesim.calibrate.collect.statistics import Summary, summary

NARROW_PERCENT = 2.0
LARGEST_VISITS = 40
LARGEST_CALLS = 64
LEAST_SLICE_S, COARSE_SLICE_S, LARGEST_SLICE_S = 0.002, 0.01, 0.1
"""Seconds of a visit's timed calls: at least, at most at first, at most later."""
COARSE_SHARE = 0.5
"""Of the time, what the first visits may take; points not reached by then wait for the end."""
PRIORITIES = 3
NS = 1e9
FAILURES = (RuntimeError, TypeError, NotImplementedError, AttributeError, ValueError)
"""What torch raises where it has no kernel, no memory or an older interface."""


@dataclass
class Series:
    """A point, the times of each visit, the row of an earlier run, and why it cannot be."""

    point: Point
    visits: list[list[float]] = field(default_factory=list)
    earlier: dict[str, Any] | None = None
    failure: str | None = None

    @property
    def turns(self) -> int:
        """How often it was visited; an earlier run counts once."""
        return len(self.visits) + (self.earlier is not None)

    @property
    def weighted_turns(self) -> int:
        """Rounds done: a round is three visits to points of the first priority, one of the last."""
        return self.turns // (PRIORITIES - self.point.priority)

    @property
    def summary(self) -> Summary | None:
        """The time so far."""
        return summary(self.visits) if self.visits else None

    @property
    def done(self) -> bool:
        """Whether another visit would add nothing."""
        if self.failure is not None or len(self.visits) >= LARGEST_VISITS:
            return True
        known = self.summary
        narrow = self.earlier["interval_percent"] if self.earlier else float("inf")
        return min(narrow, known.interval_percent if known else narrow) <= NARROW_PERCENT


@dataclass
class Measurement:
    """Visits to points until all are narrow or the time is over.

    ``clock`` gives seconds; ``after_visit`` is told the progress and may save.
    """

    device: Device
    series: Sequence[Series]
    budget_s: float
    clock: Callable[[], float]
    after_visit: Callable[[Series], None]

    def run(self) -> None:
        """Measure; what was measured stays in ``series`` when this is interrupted."""
        start = self.clock()
        coarse_end, end = start + COARSE_SHARE * self.budget_s, start + self.budget_s
        shuffle = random.Random(0)  # noqa: S311 - an order, not a secret
        unseen = [series for series in self.series if not series.turns]
        self._round(unseen, coarse_end)
        while seen := [s for s in self.series if s.turns and not s.done]:
            fewest = min(series.weighted_turns for series in seen)
            todo = [series for series in seen if series.weighted_turns == fewest]
            shuffle.shuffle(todo)
            self._round(todo, end)
            if self.clock() >= end:
                return
        self._round([series for series in unseen if not series.visits], end)

    def _round(self, todo: Sequence[Series], end: float) -> None:
        """Visit each once, until ``end``."""
        for position, series in enumerate(todo):
            left = end - self.clock()
            if left <= 0:
                return
            most = LARGEST_SLICE_S if series.turns else COARSE_SLICE_S
            self._visit(series, left, min(left / (len(todo) - position), most))

    def _visit(self, series: Series, left: float, slice_s: float) -> None:
        start = self.clock()
        try:
            trial = series.point.prepare(self.device)
            trial.warm_up()
            times = trial.samples(1)
            rest = min(slice_s, left) - (self.clock() - start)
            count = calls_in(max(rest, LEAST_SLICE_S), times[0] / NS) - 1
            if count:
                times += trial.samples(count)
        except FAILURES as error:
            series.failure = (str(error).strip() or repr(error)).splitlines()[0]
        else:
            series.visits.append([max(time, 1.0) for time in times])
        self.after_visit(series)


def calls_in(seconds: float, call_s: float) -> int:
    """How many calls to time within ``seconds``: at least one, at most 64."""
    return min(max(int(seconds / max(call_s, 1e-9)), 1), LARGEST_CALLS)


def rows_of(series: Sequence[Series]) -> Iterator[dict[str, Any]]:
    """The rows of a measurement table, in the order of the points; the better of two runs."""
    for one in series:
        known = one.summary
        if one.earlier is not None and (known is None or known.repeats < one.earlier["repeats"]):
            yield one.earlier
        elif known is not None:
            yield {**one.point.columns, **known._asdict()}
