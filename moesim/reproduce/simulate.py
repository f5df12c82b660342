"""How long a point takes, and which batch fits: each found once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moesim.engine.case import Case
from moesim.engine.counts import Loads
from moesim.engine.outcome import Outcome
from moesim.metrics.balance import balance
from moesim.reproduce.cases import Pools, case_of
from moesim.reproduce.parameters import Assumptions
from moesim.reproduce.settings import Setting


@dataclass(frozen=True)
class Timed:
    """The measured batches of a point, the warm-up left out.

    ``batch_ns``: one batch; ``charges`` ns a batch of the mean GPU by category, which with idle
    time add up to it; ``miss_rate``: misses over activations; ``balance`` as ``metrics.balance``
    gives.
    """

    setting: Setting
    batch_ns: float
    charges: Mapping[str, float]
    miss_rate: float = 0.0
    balance: Mapping[str, Any] | None = None

    @property
    def throughput(self) -> float:
        """Sentences a second of all GPUs."""
        return self.setting.sentences * 1e9 / self.batch_ns


def play(case: Case) -> Outcome:
    """The outcome of ``case`` from the fastest engine that is exact."""
    if case.links is None:
        from moesim.engine.replay.run import run_replay

        return run_replay(case, records="summary")
    from moesim.engine.des.run import run_des

    return run_des(case, records="summary")


def timed(setting: Setting, values: Assumptions, pools: Pools, warm: int = 0) -> Timed:
    """Simulate ``setting``, whose first ``warm`` batches are left out."""
    case = case_of(setting, values, pools)
    outcome = play(case)
    first = case.schedule.passes * warm // setting.batches
    begin = int(outcome.ends[first - 1].max()) if first else 0
    batches = setting.batches - warm
    charges = outcome.charges[first:].sum(axis=0).mean(axis=0) / batches
    activations, hits = (
        int(one[first:].sum()) for one in (outcome.counts.activations, outcome.counts.hits)
    )
    return Timed(
        setting,
        (outcome.duration_ns - begin) / batches,
        dict(zip(outcome.categories, charges.tolist(), strict=True)),
        (activations - hits) / max(activations, 1),
        balance(Loads.of(outcome.counts.rows[first:])),
    )
