"""How far times of requests that are served move with what prices may be off by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from moesim.engine.outcome import Outcome
from moesim.hardware.price_errors import Spread
from moesim.metrics.price_interval import TIMES, Limits, time_limits
from moesim.metrics.priced_time import PricedTime, priced_time
from moesim.metrics.served import Floats, ServedRun

STATISTICS = ("mean", "p99")
BARRIER, QUEUE, FRONTEND = "waiting_for_gpus", "queue", "frontend"
NS = 1e6
Rows = list[dict[str, Any]]


def keys_of(time: str) -> list[str]:
    """The numbers of a summary that have the limits of ``time``."""
    return [f"{one}_{time}_ms" for one in STATISTICS]


def times_of_parts(
    run: ServedRun,
    outcome: Outcome,
    rows_of: Callable[[PricedTime], Rows],
    front: Spread,
) -> dict[str, Limits]:
    """Between which the times of requests lie, over what they are, by the names of a summary: where
    no request comes by the clock, so that steps stay what they are. What a request's GPU is charged
    moves as its prices do (``rows_of`` some time), what it waits for other steps or GPUs as the
    whole run does, its way as the ``front`` end; idle time stays.
    """
    whole = rows_of(priced_time(outcome))
    ttft, answers = _first_ns(run, outcome), run.answers_ns(outcome)
    gaps = np.maximum(answers.pop("gaps"), 1)
    parts = {
        "ttft": {name: float(of.sum()) for name, of in ttft.items()},
        "tpot": {name: float((of / gaps).sum()) for name, of in answers.items()},
    }
    later = {name: float(of.sum()) for name, of in answers.items()}
    both = {*parts["ttft"], *later}
    parts["e2el"] = {name: parts["ttft"].get(name, 0) + later.get(name, 0) for name in both}
    found: dict[str, Limits] = {}
    for time, ns in parts.items():
        if sum(ns.values()) > 0:
            limits = time_limits(_moving(ns, outcome, rows_of, whole, front))
            found |= dict.fromkeys(keys_of(time), limits)
    return found


def _first_ns(run: ServedRun, outcome: Outcome) -> dict[str, Floats]:
    """What the times to the first token are made of, of the requests that count, in ns."""
    counts = run.counts()
    named = run.parts_ms(outcome).items()
    return {name.removeprefix("ttft_").removesuffix("_ms"): of[counts] * NS for name, of in named}


def _moving(
    ns: Mapping[str, float],
    outcome: Outcome,
    rows_of: Callable[[PricedTime], Rows],
    whole: Rows,
    front: Spread,
) -> Rows:
    """Rows of a time that is made of ``ns`` by name."""
    total = sum(ns.values())
    charged = {name: ns.get(name, 0.0) for name in outcome.categories if name != BARRIER}
    waits = ns.get(QUEUE, 0.0) + ns.get(BARRIER, 0.0)
    own = _scaled(rows_of(priced_time(outcome, charged)), sum(charged.values()) / total)
    rest = {**front._asdict(), "share": ns.get(FRONTEND, 0.0) / total}
    return [*own, *_scaled(whole, waits / total), rest]


def _scaled(rows: Iterable[Mapping[str, Any]], by: float) -> Rows:
    return [{**row, "share": by * row["share"]} for row in rows]


def times_played(
    numbers: Mapping[str, Any],
    played: Callable[[float], Mapping[str, Any]],
    limits: Limits,
    front: tuple[float, Spread],
) -> dict[str, Limits]:
    """Likewise where requests come by the clock: ``played`` gives the ``numbers`` of the run at
    prices that are so many times those that they were, at both ``limits``. ``front``: the part of
    the way in a TTFT, in ms, which is off by its own.
    """
    ends = [played(times) for times in limits]
    found = {}
    for time in TIMES:
        way, spread = (0.0 if time == "tpot" else front[0]), front[1]
        for key in (key for key in keys_of(time) if numbers.get(key)):
            value, off = numbers[key], (spread.low or 1.0, spread.high or 1.0)
            moved = [
                times * (end[key] - way) + way * off_by
                for end, times, off_by in zip(ends, limits, off, strict=True)
            ]
            found[key] = (min(moved[0] / value, 1.0), max(moved[1] / value, 1.0))
    return found
