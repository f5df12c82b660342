"""How far the numbers of a run move with what its prices may be off by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np

from moesim.config.registry import kind_of
from moesim.engine.case import Case
from moesim.engine.outcome import Outcome
from moesim.experiment.building.built import Built
from moesim.experiment.running.full_host import from_drive
from moesim.experiment.running.host_kind import host_kind
from moesim.experiment.running.replicas import outcome_of
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.serving import Serving
from moesim.hardware.choice import gpu_and_host
from moesim.hardware.cost_model import CostModel
from moesim.hardware.price_errors import (
    Machine,
    Spread,
    fits_of,
    frontend_spread,
    software_spread,
    spread_of,
)
from moesim.hardware.prices.provenance import Source
from moesim.memory.host.on_cpu import OnCpu
from moesim.metrics.other_texts import OTHER_TEXTS, distinct_of_other_texts
from moesim.metrics.price_interval import (
    TIMES,
    Limits,
    factors,
    from_drive_row,
    price_interval,
    stand_in_spread,
    time_limits,
    within_row,
)
from moesim.metrics.priced_time import PricedTime, calls_of_copies, priced_time, with_calls
from moesim.metrics.served import ServedRun
from moesim.metrics.served_interval import keys_of, times_of_parts, times_played
from moesim.trace.cards import is_ones_own, scaled_from
from moesim.trace.statistics.load import expert_counts
from moesim.workload.serving.state import NEVER

KINDS_OF_EXPERTS = ("experts", "unpacking")
COUNTED_TOKENS = 4096
"""Of a trace, from which experts' shares are taken."""
MOST_TOKENS = 500_000
"""Of a run that is played again without being asked to."""
Play = Callable[[Case], Outcome]


class Played(NamedTuple):
    """A run: what was ``built`` for it, its ``outcome``, its ``numbers``, of requests that are
    served (``run``), and what plays it ``again`` (None: it is not played again).
    """

    built: Built
    outcome: Outcome
    numbers: Mapping[str, Any]
    run: ServedRun | None = None
    again: Play | None = None


def price_ranges(experiment: Experiment, played: Played) -> dict[str, Any]:
    """The key ``price_interval`` of the summary, by the errors of the operations; idle time is what
    requests leave, where they are served.
    """
    outcome, numbers = played.outcome, played.numbers
    rows = _Rows(experiment, played)
    fixed = numbers["time_share"]["idle"] if played.run is not None else 0.0
    found = rows.of(priced_time(outcome), fixed)
    timed = played.run is not None and experiment.workload.arrivals.timed
    known = any(row["low"] is not None for row in found)
    times = _times(played, rows, found, timed=timed) if known else {}
    return price_interval(numbers, found, timed=timed, times=times)


def _times(
    played: Played, rows: _Rows, found: list[dict[str, Any]], *, timed: bool
) -> dict[str, Limits]:
    """Of times of requests: between which multiples they lie, where that is known. Where nothing
    serves them they are as the run's time, whose rows were ``found``.
    """
    run = played.run
    if run is None:
        keys = (key for time in TIMES for key in keys_of(time))
        return dict.fromkeys((key for key in keys if played.numbers.get(key)), time_limits(found))
    if not timed:
        return times_of_parts(run, played.outcome, rows.of, _front(played))
    if played.again is None:
        return {}
    return _played_again(played, time_limits(rows.of(priced_time(played.outcome))), _front(played))


def machine_of(experiment: Experiment, built: Built) -> Machine:
    """By whose names, and how used, the prices of a run are off."""
    gpu, host = gpu_and_host(experiment.hardware)
    shared = any(
        layer.moe.chooses and len(built.case.local_experts(0)) < layer.moe.experts
        for layer in built.case.model.moe_layers
        if layer.moe
    )
    cache = built.case.host_cache
    mapped = cache is not None and cache.mapped
    prices, name = cast("CostModel", built.case.prices), host or gpu
    kind = host_kind(prices.hardware, experiment.hardware, experiment.folders, name)
    return Machine(gpu, name, built.case.software.pinned, shared, mapped, kind)


class _Rows:
    """Rows of what is off together, of any part of a run's time."""

    def __init__(self, experiment: Experiment, played: Played) -> None:
        built, numbers = played.built, played.numbers
        software = built.case.software
        prices = cast("CostModel", built.case.prices)
        self._machine = machine_of(experiment, built)
        self._operations = prices.operations
        self._fits = fits_of(self._operations.values(), self._machine, software.framework)
        self._software = software_spread(software, serves=played.run is not None)
        misses = numbers.get("misses") or 0
        calls = built.case.host_copy_ns * misses if software.blocking else 0
        self._called = calls_of_copies(priced_time(played.outcome), calls)
        cached = kind_of(type(experiment.experts.policy)) != "stream"
        stands_in = cached and scaled_from(experiment.trace) is not None and misses
        there = experiment.host_layers or experiment.experts.on_cpu != OnCpu()
        on_cpu = () if there else ("cpu_expert",)  # whatever the trace, such layers' are all there
        loads = {"copy", "storage_read", *on_cpu}
        self._routing: list[tuple[Spread, frozenset[str]]] = []
        if stands_in:
            missed = stand_in_spread(1 - numbers["hit_ratio_per_expert"])
            self._routing.append((missed, frozenset(loads)))
        if (limits := _other_texts(experiment.trace, built.case, played.outcome)) is not None:
            kinds = {*KINDS_OF_EXPERTS, "cpu_expert", *loads} - (loads if stands_in else set())
            self._routing.append((Spread(OTHER_TEXTS, *limits), frozenset(kinds)))
        self._from_drive = from_drive(built)

    def of(self, time: PricedTime, fixed: float = 0.0) -> list[dict[str, Any]]:
        """Of ``time``, beside which nothing was to be done for the share ``fixed``."""
        spent = with_calls(time, self._called)
        rows = [
            {**row, "fits": self._fits.get(row["of"], [])}
            for row in factors(spent, self._spread, fixed, self._software)
        ]
        for moved, kinds in self._routing:
            rows.append(within_row(moved, time, kinds, fixed, self._spread))
        if self._from_drive is not None:
            rows.append(from_drive_row(spent, fixed, self._from_drive))
        return rows

    def _spread(self, kind: str, source: Source) -> Spread:
        return spread_of(self._operations[kind], source, self._machine)


def _other_texts(trace: str, case: Case, outcome: Outcome) -> Limits | None:
    """How many times as many distinct experts as those of ``trace`` another text may choose; None
    where all are computed, a pass has one row, or the trace is a recording of the user's own.
    """
    rows = np.diff(outcome.schedule.offsets)
    if is_ones_own(trace) or case.gating.invokes_all or not (rows > 1).any():
        return None
    every = max(case.trace.tokens // COUNTED_TOKENS, 1)
    counts = expert_counts(case.trace, every)
    return distinct_of_other_texts(counts, len(range(0, case.trace.tokens, every)), rows[rows > 0])


def _front(played: Played) -> Spread:
    """Of what requests are on their way."""
    serving, run = played.built.case.serving, played.run
    assert serving is not None, "requests are served"
    assert run is not None, "they were"
    prompts = float(played.numbers["total_input_tokens"]) / max(played.numbers["completed"], 1)
    times = serving.times
    made = 1 if times.tokenize_ns or times.per_prompt_token_ns else 0
    ways = {"frontend_ns": 2, "tokenize_ns": made, "per_prompt_token_ns": made * prompts}
    return frontend_spread(played.built.case.software, ways if times.frontend_ns else {})


def again_of(experiment: Experiment, built: Built, play: Play) -> Play | None:
    """``play``, where ``experiment`` has times that want it, and its run is short or asked for."""
    serving = built.case.serving
    if serving is None or not experiment.workload.arrivals.timed or serving.watch is not None:
        return None
    asked, wish = serving.served.asked, (experiment.serving or Serving()).price_interval
    tokens = int(asked.input_tokens.sum() + asked.output_tokens.sum())
    short = wish == "auto" and tokens <= MOST_TOKENS
    return play if wish == "always" or short else None


def played_once(experiment: Experiment) -> Experiment:
    """``experiment`` whose runs are not played again for intervals of times, unless it asks."""
    serving = experiment.serving or Serving()
    if not experiment.workload.arrivals.timed or serving.price_interval != "auto":
        return experiment
    return experiment.model_copy(
        update={"serving": serving.model_copy(update={"price_interval": "never"})}
    )


def _played_again(played: Played, limits: Limits, front: Spread) -> dict[str, Limits]:
    run, again = played.run, played.again
    assert run is not None, "requests are served"
    assert again is not None, "it is played again"
    way = run.parts_ms(played.outcome)["ttft_frontend_ms"][run.counts()]

    def numbers(times: float) -> Mapping[str, Any]:
        built = replace(played.built, case=_sooner(played.built.case, times))
        _, case, outcome, _ = outcome_of(built, again)
        return ServedRun.of(case, outcome, run.service).numbers()

    mean = float(way.mean()) if len(way) else 0.0
    return times_played(played.numbers, numbers, limits, (mean, front))


def _sooner(case: Case, times: float) -> Case:
    """``case`` whose requests come so many ``times`` as fast: at prices so many times as high they
    come when they came, on a clock that is so many times as fast.
    """
    serving = case.serving
    assert serving is not None, "requests are served"
    asked = serving.served.asked
    sent, think = asked.arrival_ns, asked.think_ns
    never = sent == NEVER
    sent = np.where(never, NEVER, (np.where(never, 0, sent) / times).astype(np.int64))
    asked = replace(asked, arrival_ns=sent, think_ns=(think / times).astype(np.int64))
    serving = replace(serving, served=replace(serving.served, asked=asked), state=None)
    return replace(case, serving=serving, scheduler=serving.passes)
