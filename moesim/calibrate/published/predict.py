"""What moesim makes of published runs: blind, and with hosts fitted to other runs of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moesim.calibrate.host.fit import HostFit, fit_host, with_share
from moesim.calibrate.host.measured import OPTION, Measured
from moesim.calibrate.host.same import check_not_fitted
from moesim.calibrate.published.implied import implied
from moesim.calibrate.published.pack import TABLE, PublishedRun
from moesim.config.errors import InputError
from moesim.config.strict_yaml.overrides import OPTION as SET
from moesim.experiment.loading.once import read_once
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.cache import reused_or
from moesim.experiment.running.run import simulate
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware.described.reached import EXPERTS, experts_reach
from moesim.hardware.price_errors import ON_CPU
from moesim.metrics.price_interval import kind_of_row, price_interval, told_shares
from moesim.results import Result
from moesim.sweep.run import Progress

JUDGED = ("fitted_to", "run", "measured_tokens_per_s", "predicted_tokens_per_s", "error_percent")


@dataclass(frozen=True)
class FittedHosts:
    """By run: the fit of its host (``fits``), or why there is none (``refused``)."""

    fits: Mapping[str, HostFit]
    refused: Mapping[str, str]


@read_once()
def blind(
    runs: Sequence[PublishedRun],
    *,
    ranges: bool = False,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> pd.DataFrame:
    """A row a run, with the host's prior: measured and predicted tokens/s (or as many a second as
    took the time that the row is ``of``), the error of the time a token or of that time
    (``error_percent``; above 0: too slow), what the time rests on (``rests_on``) and waits
    for (``waiting_for_cpu_percent``), what the measured time would imply (``implies``), what was
    assumed, and why there is no speed (``reason``). NaN where a run does not fit in memory, or is
    refused.

    ``ranges``: with ``low_tokens_per_s`` and ``high_tokens_per_s`` (``with_range``). ``progress``
    is told how many runs are done, of how many. ``cache``: a folder that keeps results, from which
    those that are there are taken.
    """
    rows = []
    for done, run in enumerate(runs, 1):
        rows.append(_row(run, ranges, cache))
        if progress:
            progress(done, len(runs))
    return pd.DataFrame(rows)


def _row(run: PublishedRun, ranges: bool, cache: Path | None) -> dict[str, Any]:
    experiment, result = _experiment(run), None
    try:
        if not run.of:  # else its speed is one of what took that time
            check_not_fitted(experiment, run.measured_tokens_per_s)
        result = _result(experiment, cache)
        found: Mapping[str, Any] = result.summary
    except InputError as error:
        found = {"status": "refused", "reason": error.problems[0].what}
    speed, measured = _speed(found, run.of), run.measured_tokens_per_s
    implies = ""
    if result is not None and not np.isnan(speed):
        implies = implied(experiment, result, speed, measured, run.of)
    waits = (found.get("time_share") or {}).get("waiting_for_cpu", 0.0)
    spread = with_range(judged_by_others(found, run.host), run.of) if ranges else {}
    return {
        "run": run.run, "of": run.of, "family": run.family, "engine": run.engine,
        "model": run.model, "gpu": run.gpu, "host": run.host, **_compared(run, speed), **spread,
        "status": found["status"], "reason": _why_not(found, run.of),
        "rests_on": _rests_on(told_shares(found)), "most_rests_on": _largest(found),
        "waiting_for_cpu_percent": 100 * waits,
        "implies": implies,
        "certainty": run.certainty, "assumed": run.assumed, "source": run.source,
    }  # fmt: skip


def _result(experiment: Experiment, cache: Path | None) -> Result:
    return simulate(experiment) if cache is None else reused_or(simulate, experiment, cache)


def _speed(summary: Mapping[str, Any], of: str = "") -> float:
    """Output tokens a second, or as many a second as took the time ``of``; NaN without a run."""
    number = summary.get(of or "output_throughput") if summary["status"] == "ok" else None
    if number is None:
        return float("nan")
    return float(1e3 / number if of else number)


def _why_not(summary: Mapping[str, Any], of: str) -> str:
    """Why a run has no prediction; "" where nothing says so."""
    if of and summary["status"] == "ok" and summary.get(of) is None:
        return f"it has no {of}: its experiment has no such tokens"
    return str(summary.get("reason") or "")


def with_range(summary: Mapping[str, Any], of: str = "") -> dict[str, float]:
    """The least and the most that ``_speed`` has by what its prices, the host's share of its DRAM
    where that is a prior, and a stand-in trace may be off by (``price_interval``).
    """
    if np.isnan(speed := _speed(summary, of)):
        return dict.fromkeys(("low_tokens_per_s", "high_tokens_per_s"), np.nan)
    found = summary["price_interval"].get(of or "output_throughput") or {}
    if found.get("low") is None:
        return {"low_tokens_per_s": speed, "high_tokens_per_s": speed}
    low, high = found["low"], found["high"]
    ends = (1e3 / high, 1e3 / low) if of else (low, high)
    return dict(zip(("low_tokens_per_s", "high_tokens_per_s"), ends, strict=True))


def judged_by_others(summary: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    """``summary`` whose range by its prices says what experts on the CPU reach on other hosts than
    ``host``, one run of which is among what that rests on.
    """
    made = summary.get("price_interval")
    if made is None or host not in {one.host for one in EXPERTS}:
        return summary
    (least, most), (low, high) = experts_reach(), experts_reach(without=host)
    rows = [
        {**row, "low": row["low"] * most / high, "high": row["high"] * least / low}
        if row["of"].startswith(ON_CPU) and row["low"] is not None
        else row
        for row in made["factors"]
    ]
    return {**summary, "price_interval": price_interval(summary, rows)}


def within(table: pd.DataFrame) -> tuple[int, int]:
    """How many runs of ``table`` lie in their ranges, and how many have one: ends that are the same
    are none.
    """
    known = table[table["low_tokens_per_s"] < table["high_tokens_per_s"]]
    measured = known["measured_tokens_per_s"]
    inside = measured.between(known["low_tokens_per_s"], known["high_tokens_per_s"])
    return int(inside.sum()), len(known)


def fitted_hosts(runs: Sequence[PublishedRun]) -> FittedHosts:
    """The share of each run that has a host, fitted to it alone."""
    fits: dict[str, HostFit] = {}
    refused: dict[str, str] = {}
    for run in runs:
        if not run.host:
            continue
        measured = Measured(run.measured_tokens_per_s, f"{run.engine}, {run.source}")
        try:
            fits[run.run] = fit_host(_experiment(run), measured)
        except InputError as error:
            refused[run.run] = str(error).removeprefix(f"{OPTION}: ")
    return FittedHosts(fits, refused)


def judged(runs: Sequence[PublishedRun], hosts: FittedHosts) -> pd.DataFrame:
    """Every run predicted with the host that another run of the same host was fitted to."""
    rows: list[dict[str, Any]] = []
    for fitted in runs:
        if fitted.run not in hosts.fits:
            continue
        share = hosts.fits[fitted.run].share
        for run in runs:
            if run.host == fitted.host and run.run != fitted.run:
                found = simulate(_with_share(_experiment(run), share)).summary
                speed = found["output_throughput"]
                rows.append({"fitted_to": fitted.run, "run": run.run, **_compared(run, speed)})
    return pd.DataFrame(rows, columns=JUDGED)


def median_error(table: pd.DataFrame) -> float:
    """The median of the errors' sizes, in percent of the measured time a token."""
    return float(table["error_percent"].abs().median())


def right_pairs(table: pd.DataFrame) -> tuple[int, int]:
    """Of the pairs of runs of one engine, whose numbers are of the same kind and measured to
    differ: how many moesim puts in the measured order, and all.
    """
    right = [(first - second) * (one - other) > 0 for first, second, one, other in _pairs(table)]
    return sum(right), len(right) - equal_pairs(table)


def equal_pairs(table: pd.DataFrame) -> int:
    """How many such pairs were measured to be equal: they have no order."""
    return sum(first == second for first, second, *_ in _pairs(table))


def _pairs(table: pd.DataFrame) -> Iterator[tuple[float, float, float, float]]:
    """Both measured speeds of each pair, then both predicted ones."""
    by = ["family", *({"of"} & {*table.columns})]
    for _, mine in table.dropna(subset="error_percent").groupby(by, dropna=False):
        for (first, one), (second, other) in combinations(_speeds(mine), 2):
            yield first, second, one, other


def _speeds(table: pd.DataFrame) -> Iterator[tuple[float, float]]:
    yield from zip(table["measured_tokens_per_s"], table["predicted_tokens_per_s"], strict=True)


def _experiment(run: PublishedRun) -> Experiment:
    """That of ``run``, of which no table by step or layer is read: these are most of the memory.

    InputError for what cannot be used; of a setting it names the run's row.
    """
    try:
        experiment = load_experiment(run.file, run.settings, alone=True).experiment
    except InputError as error:
        row = f"{run.file.parent / TABLE}: {run.run}: "
        told = [(one, one.where.startswith(SET)) for one in error.problems]
        raise InputError(
            [replace(one, where=row + one.where[2:]) if own else one for one, own in told]
        ) from None
    return experiment.model_copy(update={"records": "summary"})


def _with_share(experiment: Experiment, share: float) -> Experiment:
    return experiment.model_copy(update={"hardware": with_share(experiment.hardware, share)})


def _compared(run: PublishedRun, speed: float) -> dict[str, float]:
    measured = run.measured_tokens_per_s
    return {
        "measured_tokens_per_s": measured,
        "predicted_tokens_per_s": speed,
        "error_percent": 100 * (measured / speed - 1),
    }


def _largest(summary: Mapping[str, Any]) -> str:
    """What the largest part of the time rests on, of what the run's interval tells apart: as in
    'experts on the CPU', 'datasheet', 'link', 'attention, interpolated'.
    """
    factors = (summary.get("price_interval") or {}).get("factors")
    if not factors:
        return ""
    most = max(factors, key=lambda row: row["share"])
    return ", ".join(filter(None, (kind_of_row(most), most["rests_on"])))


def _rests_on(shares: Mapping[str, float]) -> str:
    """The shares of the time by what prices it, the largest first."""
    least = 0.005  # which rounds to a percent
    told = sorted(((share, name) for name, share in shares.items() if share >= least), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in told)
