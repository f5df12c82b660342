"""Whether experts should move between GPUs while a server runs: how many redundant, how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moesim.config.errors import InputError
from moesim.experiment.schema.experiment import Experiment
from moesim.metrics.intervals import Difference
from moesim.sweep.advise.choices import RESIDENT, Choice, with_settings
from moesim.sweep.advise.scored import Scored

SHARES_OF_RUN = (16, 4)
"""What the steps of a run are divided by for how often experts are planned anew."""
REPLICAS_OF_GPU = (0, 1, 2)
"""Redundant experts of a layer for each GPU."""
LEAST_STEPS = 64
"""Of a shorter run a sixteenth says nothing of the loads that come."""
STAYS = ("placement", "{kind: contiguous}")


@dataclass(frozen=True)
class Moves:
    """A run in which experts get other places every ``interval`` steps, with so many ``redundant``
    ones in each layer.
    """

    interval: int
    redundant: int
    scored: Scored

    @property
    def words(self) -> str:
        """For a sentence."""
        more = f"{self.redundant} redundant" if self.redundant else "without redundant"
        return f"every {self.interval:,} steps, {more} experts a layer"


@dataclass(frozen=True)
class Rebalanced:
    """The run in which experts stay where they are, and those in which EPLB moves them."""

    stays: Scored
    tried: tuple[Moves, ...]

    @property
    def best(self) -> Moves | None:
        """The fastest of those that move; None where none ran."""
        ran = [one for one in self.tried if one.scored.throughput]
        return max(ran, key=lambda one: one.scored.throughput or 0.0, default=None)

    def ratio(self, one: Moves) -> float | None:
        """Its throughput over that of the run in which experts stay."""
        before, after = self.stays.throughput, one.scored.throughput
        return after / before if before and after else None

    def over(self, one: Moves) -> Difference | None:
        """How far it is faster, with an interval; None where one is not known."""
        return one.scored.over(self.stays)

    @property
    def worth(self) -> bool | None:
        """Whether the best is faster; None where the runs cannot tell."""
        best = self.best
        if best is None:
            return False
        apart = self.over(best)
        if apart is not None and not apart.by_prices:
            return None
        if apart is not None and apart.low is not None and not apart.distinguishable:
            return None
        return (self.ratio(best) or 0.0) > 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data: units in the keys."""
        return {
            "worth": self.worth,
            "stays_tokens_per_s": self.stays.throughput,
            "tried": [_plain(one, self.ratio(one)) for one in self.tried],
        }


def _plain(one: Moves, ratio: float | None) -> dict[str, Any]:
    summary = one.scored.summary
    return {
        "interval": one.interval,
        "redundant": one.redundant,
        "throughput_tokens_per_s": one.scored.throughput,
        "ratio": ratio,
        **{name: summary.get(name) for name in ("balancedness", "rebalanced_bytes")},
        "share_of_time": (summary.get("time_share") or {}).get("rebalancing"),
        "reason": summary.get("reason"),
    }


Point = tuple[dict[str, Any], Experiment]


def can_move(base: Experiment, best: Choice) -> bool:
    """Whether several GPUs hold whole experts, all of them, so that the question is one."""
    parallel = base.parallelism
    held = best.capacity == RESIDENT.capacity and not best.layers
    return held and parallel.expert > 1 and parallel.slices == 1 and parallel.pipeline == 1


def moving_points(
    base: Experiment, best: Choice, steps: int
) -> tuple[list[tuple[int, int]], list[Point], str | None]:
    """How often and with how many redundant experts, and the points of a sweep of that, the first
    one in which experts stay; and why there is none.
    """
    if steps < LEAST_STEPS:
        return [], [], f"the run has {steps} steps, too few to learn loads from; ask for more"
    points, asked = [_point(base, best, STAYS)], list(_asked(base, steps))
    try:
        points += [_point(base, best, ("placement", _written(*one))) for one in asked]
    except InputError as error:
        return [], [], error.problems[0].what
    return asked, points, None


def _asked(base: Experiment, steps: int) -> Iterator[tuple[int, int]]:
    for share in SHARES_OF_RUN:
        for replicas in REPLICAS_OF_GPU:
            yield steps // share, replicas * base.parallelism.expert


def _written(interval: int, redundant: int) -> str:
    """The value of ``placement``; plans are from what came since the last one."""
    return f"{{kind: eplb, interval: {interval}, window: {interval}, redundant: {redundant}}}"


def _point(base: Experiment, best: Choice, moves: tuple[str, str]) -> Point:
    settings = {**best.settings, moves[0]: moves[1]}
    return settings, with_settings(base, settings)
