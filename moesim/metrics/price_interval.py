"""How far a run's speed moves with what its prices may be off by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from moesim.hardware.price_errors import CONFIDENCE, DATASHEET_OF, SOFTWARE, Spread
from moesim.hardware.prices.provenance import SOURCES, Source
from moesim.metrics.priced_time import PricedTime

Floats = NDArray[np.float64]
DRAWS = 1000
SEED = 20_261_127
SERVED_SPEED = "request_throughput"
SPEEDS = ("output_throughput", "total_token_throughput", SERVED_SPEED)
"""The speeds of a summary that have an interval; the last only where requests are served."""
TIMES = ("ttft", "tpot", "e2el")
"""Times of requests that are served, which have one too."""
Limits = tuple[float, float]
Rows = Iterable[Mapping[str, Any]]
NOTHING: Mapping[str, str] = {}
UNKNOWN = Spread(SOFTWARE)
DATASHEET = SOURCES[Source.DATASHEET]
TIMED = "with timed arrivals throughput follows what arrives, as long as the service keeps up"
"""Why neither faster nor slower prices need to change a throughput."""
GUESSED = "no kernel of such a GPU was measured"
"""Why what the rest is off by says nothing of the whole."""
MOST = 0.5
"""Of the time."""
STAND_IN = "misses of a stand-in trace"
STAND_IN_MISSES = (0.65, 1.7)
"""Misses an access of the four recorded traces over those of the stand-ins that are scaled from the
other three, LRU with an eighth, a quarter and 40 % of the experts: 5th and 95th percentile.
"""
FROM_DRIVE = "experts of a nearly full host that are read from its drive"
CPU_EXPERT = "cpu_expert"
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


def timed(summary: Mapping[str, Any]) -> bool:
    """Whether requests came by the clock, so that the run's throughput is what arrives."""
    return (summary.get("price_interval") or {}).get("reason") == TIMED


def factors(
    spent: PricedTime,
    spread: Callable[[str, Source], Spread],
    fixed: float,
    software: Spread = UNKNOWN,
) -> list[dict[str, Any]]:
    """A row for each ``Spread``, of what is off together and by how much: its name ``of``, the
    ``share`` of the run's time, ``low`` and ``high`` (None: not known), and what it ``rests_on``.

    ``spread``: of a kind of operation and a source; ``software``: of its own times; ``fixed``: the
    share of the time in which nothing was to be done.
    """
    shares = _shares(spent.priced, spread)
    if spent.host:
        shares[software] += spent.host
    return _rows(shares, (1 - fixed) / max(spent.total, 1.0))


def _shares(
    priced: Mapping[str, Floats], spread: Callable[[str, Source], Spread]
) -> defaultdict[Spread, float]:
    """Nanoseconds of each spread."""
    shares: defaultdict[Spread, float] = defaultdict(float)
    for kind, nanoseconds in priced.items():
        for source in Source:
            if nanoseconds[source]:
                shares[spread(kind, source)] += float(nanoseconds[source])
    return shares


def _rows(shares: Mapping[Spread, float], whole: float) -> list[dict[str, Any]]:
    """Largest first; ``whole``: the share of the time that is a nanosecond."""
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0].of))
    return [{**one._asdict(), "share": ns * whole} for one, ns in ordered]


def within_row(
    moved: Spread,
    spent: PricedTime,
    kinds: Iterable[str],
    fixed: float,
    spread: Callable[[str, Source], Spread],
) -> dict[str, Any]:
    """A row more, of what moves the time that is priced as ``kinds`` whatever the prices are, as
    ``moved`` says. ``within``: the rows, as of ``factors``, that move the same time, and their
    shares; ``fixed``, ``spread``: as there.
    """
    own = {kind: spent.priced[kind] for kind in kinds if kind in spent.priced}
    within = _rows(_shares(own, spread), (1 - fixed) / max(spent.total, 1.0))
    parts = [{key: one[key] for key in ("of", "rests_on", "share")} for one in within]
    return {**moved._asdict(), "share": sum(one["share"] for one in within), "within": parts}


def kind_of_row(row: Mapping[str, Any]) -> str:
    """What a row of ``factors`` is of, whatever the machine: 'experts on the CPU', 'link'."""
    kind = str(row["of"]).split(" of ")[0]
    return SOFTWARE if kind.startswith(SOFTWARE) else kind


def told_shares(summary: Mapping[str, Any]) -> dict[str, float]:
    """``price_share`` whose datasheet's part is told by what it is of, the largest first, where the
    run's interval tells it: a host's share of its DRAM, a link and page faults are on no datasheet.
    """
    shares = dict(summary.get("price_share") or {})
    parts: defaultdict[str, float] = defaultdict(float)
    for row in (summary.get("price_interval") or {}).get("factors") or ():
        kind, beside = kind_of_row(row), "within" in row or row["of"] == FROM_DRIVE
        if row["rests_on"] is None and kind != SOFTWARE and not beside:
            parts[kind] += row["share"]
    if whole := sum(parts.values()):
        sheet = shares.pop(DATASHEET, 0.0)
        ordered = sorted(parts.items(), key=lambda part: -part[1])
        shares = {kind: sheet * share / whole for kind, share in ordered} | shares
    return shares


def stand_in_spread(missed: float) -> Spread:
    """How many times the misses of a stand-in trace those of the trace itself may be, which are at
    most all activations; ``missed``: the share of these in the run.
    """
    low, high = STAND_IN_MISSES
    return Spread(STAND_IN, low, min(high, 1 / missed))


def from_drive_row(spent: PricedTime, fixed: float, times: float) -> dict[str, Any]:
    """A row more of a run whose host's experts take up to so many ``times`` as long where the
    system does not leave them all of the memory; ``fixed``: as in ``factors``.
    """
    time = float(spent.priced[CPU_EXPERT].sum()) if CPU_EXPERT in spent.priced else 0.0
    share = time * (1 - fixed) / max(spent.total, 1.0)
    return {**Spread(FROM_DRIVE, 1.0, times)._asdict(), "share": share}


def price_interval(
    summary: Mapping[str, Any],
    rows: list[dict[str, Any]],
    *,
    timed: bool = False,
    times: Mapping[str, Limits] | None = None,
) -> dict[str, Any]:
    """The key ``price_interval`` of a summary: ``factors`` (``rows``), the ``unknown_share`` of the
    time, whose prices have no error that is known, and of each of ``SPEEDS`` ``low`` and ``high``,
    between which the real one lies in ``confidence`` of all cases; None where all is unknown, and,
    for a ``reason``, where requests are ``timed``, or most is by a GPU's datasheet whose error is
    unknown. ``times``: between which multiples of it each time of requests lies, by name.
    """
    unknown = sum(row["share"] for row in rows if row["low"] is None)
    guessed = sum(row["share"] for row in _guessed(rows)) > MOST
    known = any(row["low"] is not None for row in rows) and not guessed
    limits = time_limits(rows) if known and not timed else None
    speeds = [name for name in SPEEDS if name in summary or name != SERVED_SPEED]
    of = {} if guessed else times or {}
    return {
        "confidence": CONFIDENCE,
        "unknown_share": unknown,
        "reason": TIMED if timed else GUESSED if guessed else None,
        "factors": rows,
        **{name: _interval(summary.get(name), limits) for name in speeds},
        **{name: _interval(summary[name], (1 / high, 1 / low)) for name, (low, high) in of.items()},
    }


def _interval(value: float | None, limits: Limits | None) -> dict[str, float | None]:
    if value is None or limits is None:
        return {"value": value, "low": None, "high": None}
    low, high = limits
    return {"value": value, "low": value / high, "high": value / low}


def time_limits(rows: Iterable[Mapping[str, Any]]) -> Limits:
    """Between which the time lies, over what it was priced at."""
    low, high = np.quantile(time_drawn(rows), TAILS, method="hazen")
    return float(low), float(high)


def time_drawn(rows: Iterable[Mapping[str, Any]], apart: Mapping[str, str] = NOTHING) -> Floats:
    """The run's time over what it was priced at, float64[``DRAWS``], with a factor for each name.

    A name has the same draws in every run, so that what two runs share does not set them apart, but
    for those of which ``apart`` has another to draw by.
    """
    drawn = [
        (row, _factors(apart.get(row["of"], row["of"]), row["low"], row["high"]))
        for row in rows
        if row["low"] is not None
    ]
    moved = {(row["of"], row.get("rests_on")): times for row, times in drawn}
    found = np.ones(DRAWS)
    for row, times in drawn:
        found += _weight(row, moved) * (times - 1)
    return found


def _weight(row: Mapping[str, Any], moved: Mapping[Any, Floats]) -> Floats | float:
    """What a factor of ``row`` moves: its share of the time, or of the rows that are ``within`` it
    their shares, as these have ``moved`` them.
    """
    if (within := row.get("within")) is None:
        return float(row["share"])
    weight, ones = np.zeros(DRAWS), np.ones(DRAWS)
    for one in within:
        weight += one["share"] * moved.get((one["of"], one["rests_on"]), ones)
    return weight


def speed_apart(
    value: float, first: Mapping[str, Any] | None, second: Mapping[str, Any] | None
) -> tuple[float, float] | None:
    """Between which the first of two runs, ``value`` percent faster than the second, is faster in
    percent, by their ``price_interval``; None where one has none.
    """
    if not first or not second or speed_reason(first, second):
        return None
    return _times_as_much(value, second["factors"], first["factors"])


def time_apart(
    value: float, first: Mapping[str, Any] | None, second: Mapping[str, Any] | None
) -> tuple[float, float] | None:
    """As ``speed_apart``, of a time between tokens that is ``value`` percent longer in the first:
    it moves as the time in which there is something to do, whenever requests come.
    """
    if not first or not second or time_reason(first, second):
        return None
    return _times_as_much(value, busy_rows(first["factors"]), busy_rows(second["factors"]))


def _times_as_much(value: float, over: Rows, under: Rows) -> tuple[float, float] | None:
    """In percent, a ratio that is ``value`` percent above 1 and moves as the time of ``over`` over
    that of ``under``; None where one has no error that is known.
    """
    if not all(any(row["low"] is not None for row in side) for side in (over, under)):
        return None
    times = time_drawn(over, _apart(under, over)) / time_drawn(under)
    low, high = np.quantile((1 + value / 100) * times - 1, TAILS, method="hazen")
    return 100 * float(low), 100 * float(high)


def busy_rows(rows: Rows) -> list[Mapping[str, Any]]:
    """``rows`` with shares of the time that is not idle, which no row moves."""
    alone = (row["share"] for row in rows if "within" not in row and row["of"] != FROM_DRIVE)
    busy = sum(alone) or 1.0

    def of_busy(row: Mapping[str, Any]) -> dict[str, Any]:
        parts = {"within": [of_busy(one) for one in row["within"]]} if "within" in row else {}
        return {**row, "share": row["share"] / busy, **parts}

    return [of_busy(row) for row in rows]


def _apart(first: Rows, second: Rows) -> dict[str, str]:
    """What to draw by, of names in ``second`` whose prices are of none of the fits of those in
    ``first``: of another engine's kernels, or of another format's, which were measured apart.
    """
    fits = {row["of"]: row.get("fits") for row in first}
    return {
        row["of"]: f"{row['of']}, {own[0]}"
        for row in second
        if (own := row.get("fits")) and (others := fits.get(row["of"])) and not {*own} & {*others}
    }


def speed_reason(*prices: Mapping[str, Any] | None) -> str | None:
    """Why runs with these ``price_interval`` are not told apart by their throughputs."""
    made = [one for one in prices if one]
    if any(one.get("reason") == TIMED for one in made):
        return TIMED
    return time_reason(*made)


def time_reason(*prices: Mapping[str, Any] | None) -> str | None:
    """Why runs with these ``price_interval`` are not told apart by a time of theirs."""
    made = [one for one in prices if one]
    unknown = [{row["of"] for row in _guessed(one["factors"])} for one in made]
    return GUESSED if any(names != unknown[0] for names in unknown) else None


def _guessed(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What rests on a GPU's datasheet, and nobody knows how wrong that is."""
    return [row for row in rows if row["low"] is None and row["of"].startswith(DATASHEET_OF)]


def _factors(of: str, low: float, high: float) -> Floats:
    """Lognormal on either side of 1, with ``low`` and ``high`` at the ``TAILS``."""
    standard = _standard(of)
    width = np.where(standard < 0, np.log(1 / low), np.log(high))
    return np.asarray(np.exp(standard * width / ndtri(TAILS[1])))


@lru_cache(maxsize=256)
def _standard(of: str) -> Floats:
    """Quantiles of the normal distribution in an order that the name decides."""
    quantiles = ndtri((np.arange(DRAWS) + 0.5) / DRAWS)
    return np.random.default_rng([SEED, crc32(of.encode())]).permutation(quantiles)
