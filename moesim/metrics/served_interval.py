"""How far times of requests that are served move with what prices may be off by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from moesim.engine.outcome import Outcome
from moesim.hardware.price_errors import Spread
from moesim.metrics.price_interval import DRAWS, TAILS, TIMES, Limits, time_drawn, time_limits
from moesim.metrics.priced_time import PricedTime, priced_time
from moesim.metrics.served import PERCENTILES, Floats, ServedRun

OF_PLACE = {"median": 50, **{f"p{one}": one for one in PERCENTILES}}
"""Percentiles of the statistics that are one."""
MOST_REQUESTS = 256
"""Of which percentiles are drawn; of more, so many that stand evenly in order of their times."""
SOME_NS = 1e9
BARRIER, QUEUE, FRONTEND = "waiting_for_gpus", "queue", "frontend"
NS = 1e6
Rows = list[dict[str, Any]]


def keys_of(time: str) -> list[str]:
    """The numbers of a summary that say how long a ``time`` is."""
    return [f"{one}_{time}_ms" for one in ("mean", *OF_PLACE)]


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
    drawn, found = _drawn(outcome, rows_of, whole, front), dict[str, Limits]()
    for time, parts in _parts_ns(run, outcome).items():
        ns = {name: float(of.sum()) for name, of in parts.items()}
        if sum(ns.values()) > 0:
            found[f"mean_{time}_ms"] = time_limits(_moving(ns, outcome, rows_of, whole, front))
            limits = _limits_of_places(parts, drawn)
            found |= {f"{one}_{time}_ms": limits[place] for one, place in OF_PLACE.items()}
    return found


def _parts_ns(run: ServedRun, outcome: Outcome) -> dict[str, dict[str, Floats]]:
    """What each of ``TIMES`` is made of, of each request that counts and has one, in ns."""
    ttft, answers = _first_ns(run, outcome), run.answers_ns(outcome)
    gaps = np.maximum(answers.pop("gaps"), 1)
    many = run.outputs[run.counts()] > 1
    whole = {name: of.copy() for name, of in ttft.items()}
    for name, of in answers.items():
        whole.setdefault(name, np.zeros(len(many)))[many] += of
    return {"ttft": ttft, "tpot": {name: of / gaps for name, of in answers.items()}, "e2el": whole}


def _drawn(
    outcome: Outcome, rows_of: Callable[[PricedTime], Rows], whole: Rows, front: Spread
) -> dict[str, Floats]:
    """By the names of a time's parts how many times as long each takes, float64[draws]; what is not
    there stays.
    """
    as_whole = time_drawn(whole)
    found = {QUEUE: as_whole, FRONTEND: time_drawn([{**front._asdict(), "share": 1.0}])}
    none = dict.fromkeys(outcome.categories, 0.0)
    for name in outcome.categories:
        found[name] = time_drawn(rows_of(priced_time(outcome, none | {name: SOME_NS})))
    return found | {BARRIER: as_whole}


def _limits_of_places(
    parts: Mapping[str, Floats], drawn: Mapping[str, Floats]
) -> dict[int, Limits]:
    """Between which percentiles of a time lie, over what they are, by ``PERCENTILES``: each draw
    has all requests in an order of its own.
    """
    ns = np.stack(list(parts.values()))
    order = np.argsort(ns.sum(axis=0))
    few = np.linspace(0, len(order) - 1, min(len(order), MOST_REQUESTS)).round().astype(np.int64)
    ns = ns[:, order[few]]
    stays = np.ones(DRAWS)
    factors = np.stack([drawn.get(name, stays) for name in parts])
    times = np.sort(np.einsum("pd,pr->dr", factors, ns), axis=1)  # on one core: they are few
    priced = np.percentile(ns.sum(axis=0), PERCENTILES)[:, None]
    moved = np.where(priced > 0, np.percentile(times, PERCENTILES, axis=1), 1)
    moved /= np.where(priced > 0, priced, 1)
    low, high = np.quantile(moved, TAILS, axis=1, method="hazen").tolist()
    return dict(zip(PERCENTILES, zip(low, high, strict=True), strict=True))


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
    return [
        {**row, "share": by * row["share"]}
        | ({"within": _scaled(row["within"], by)} if "within" in row else {})
        for row in rows
    ]


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
