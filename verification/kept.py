"""What the kept results of a pack were at best, and what they may not become without a reason.

Of a pack and what its runs are ``of`` there are four numbers, in percent, larger is worse: the
median and the 90th percentile of the errors, the runs outside of their ranges, and the pairs in the
wrong order. One that is above what it was by more than it may be (``MAY``) has grown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from moesim.calibrate.published.predict import median_error, right_pairs, within

FOLDER = Path(__file__).with_name("evidence")
"""Errors in percent, a file a pack, as scripts/published_runs.py found them last."""
BEST, GROWTHS = FOLDER / "best" / "best.csv", FOLDER / "best" / "growths.csv"
MAY = {"median": 2.0, "p90": 4.0, "outside": 5.0, "wrong order": 2.0}
"""Points that each number may grow by, or a tenth of what it was, or one run (one pair), where that
is more: what a better price elsewhere may cost.
"""
TENTH = 0.1
KEY = ["pack", "of", "number"]
DIGITS, ROUNDED, FULL = 4, 0.01, 1.01
"""Of numbers as they are kept; points, and times what a number may grow by, that rounding makes."""


class Number(NamedTuple):
    """Percent, and the points that it may grow by at least."""

    percent: float
    least: float


class Growth(NamedTuple):
    """Of a pack's number ``of`` a kind of time ("": speed): above its ``best`` by more than it may
    be, and above what a reason stands for.
    """

    pack: str
    of: str
    number: str
    best: float
    now: float


def read(pack: str) -> pd.DataFrame:
    """What was kept of ``pack``; ``of`` is "" of speeds."""
    return pd.read_csv(FOLDER / f"{pack}.csv", dtype={"of": str}).fillna({"of": ""})


def numbers(table: pd.DataFrame) -> Mapping[str, Number]:
    """By name, of runs that are all of one kind; NaN where none has such a number."""
    known = table.dropna(subset="error_percent")
    (inside, ranged), (right, pairs) = within(known), right_pairs(known)
    one, pair = (100 / of if of else float("nan") for of in (ranged, pairs))
    found = {
        "median": (median_error(known), 0.0),
        "p90": (float(known["error_percent"].abs().quantile(0.9)), 0.0),
        "outside": (one * (ranged - inside), one),
        "wrong order": (pair * (pairs - right), pair),
    }
    return {name: Number(now, max(MAY[name], step)) for name, (now, step) in found.items()}


def over(then: float, now: Number) -> float:
    """How many times as much as it may the number grew; 0 where there was or is none."""
    more = (now.percent - then) / max(now.least, TENTH * then)
    return 0.0 if pd.isna(more) else max(more, 0.0)


def kinds(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of a pack by what they are of."""
    for of, mine in table.fillna({"of": ""}).groupby("of", sort=False):
        yield str(of), mine


def best() -> pd.Series[float]:
    """By pack, of and number."""
    return pd.read_csv(BEST, keep_default_na=False).set_index(KEY)["best"]


def growths() -> pd.DataFrame:
    """Those that were kept with a reason: ``day``, ``KEY``, ``best``, ``now``, ``reason``."""
    return pd.read_csv(GROWTHS, keep_default_na=False)


def grown(
    pack: str, table: pd.DataFrame, least: pd.Series[float], told: pd.DataFrame
) -> list[Growth]:
    """The numbers of ``table`` that are above the ``least`` by more than they may be, and above
    what was last ``told`` with a reason. A reason holds until the number is better than ever.
    """
    last = {tuple(row[key] for key in KEY): row for row in told.to_dict("records")}
    found = []
    for of, mine in kinds(table):
        for name, now in numbers(mine).items():
            key = (pack, of, name)
            then = least.get(key, float("nan"))
            row = last.get(key, {"best": float("inf"), "now": 0.0})
            holds = row["best"] <= then + ROUNDED and over(row["now"], now) <= FULL
            if over(then, now) > FULL and not holds:
                found.append(Growth(*key, then, now.percent))
    return found


def bettered(
    pack: str, before: pd.DataFrame, table: pd.DataFrame, least: pd.Series[float]
) -> pd.Series[float]:
    """The ``least`` of each number since ``table`` is kept where ``before`` was. Where runs have
    left or come, what that does to a number by itself moves its least.
    """
    made = dict(least)
    old = dict(kinds(before))
    for of, mine in kinds(table):
        was = old.get(of, mine)
        both = set(was["run"]) & set(mine["run"])
        shared = [numbers(one[one["run"].isin(both)]) for one in (was, mine)]
        ends = numbers(was), numbers(mine)
        for name, now in ends[1].items():
            left = shared[0][name].percent - ends[0][name].percent
            come = now.percent - shared[1][name].percent
            then = made.get((pack, of, name), now.percent) + left + come
            made[pack, of, name] = min(max(then, 0.0), now.percent)
    return pd.Series(made, name="best").rename_axis(KEY)


def keep(pack: str, table: pd.DataFrame, day: str, reason: str = "") -> None:
    """Write ``table`` (``FOLDER``'s columns), the best that its numbers were, and what grew.

    SystemExit, and nothing is written, where a number has grown and there is no ``reason``.
    """
    file = FOLDER / f"{pack}.csv"
    before = read(pack) if file.exists() else table
    least, told = bettered(pack, before, table, best()), growths()
    found = grown(pack, table, least, told)
    if found and not reason:
        raise SystemExit("\n".join([*map(words, found), "kept as it was: say --because WHY"]))
    rows = pd.DataFrame(found).assign(day=day, reason=reason) if found else told[:0]
    write(pd.concat([told, rows])[list(told.columns)], GROWTHS)
    write(least.sort_index().reset_index(), BEST)
    write(table, file)


def write(table: pd.DataFrame, file: Path) -> None:
    """As CSV, numbers with ``DIGITS``."""
    short = table.map(lambda one: f"{one:.{DIGITS}g}" if isinstance(one, float) else one)
    short.to_csv(file, index=False, lineterminator="\n")


def words(one: Growth) -> str:
    """A line."""
    what = f"{one.pack} {one.of}".strip()
    return f"{what}: {one.number} {one.best:.1f} % at best, {one.now:.1f} % now"


def lines() -> list[str]:
    """Markdown: every growth that was kept, with its reason, and what the number is today."""
    heads = ("day", "pack", "number", "best before", "kept then", "today", "reason")
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in growths().to_dict("records"):
        mine = dict(kinds(read(row["pack"])))[row["of"]]
        today = numbers(mine)[row["number"]].percent
        what = f"{row['pack']} {row['of']}".strip()
        three = " | ".join(f"{one:.1f} %" for one in (row["best"], row["now"], today))
        rows.append(f"| {row['day']} | {what} | {row['number']} | {three} | {row['reason']} |")
    return rows
