"""Miss-ratio curves for the terminal: a table by slots, and what they mean in a few sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from moesim.experiment.questions.curves import whole
from moesim.memory.curves.verdict import MOST, Verdict, slots_for
from moesim.report.amounts import percent

MOST_ROWS = 16
MEANING = {
    "first uses": "most misses are first uses of an expert, which no cache saves",
    "working set": "even MIN misses most of these: only more slots help",
    "policy": "MIN would save most of these: the policy is what to improve",
}


def rendered(curves: pd.DataFrame, title: str) -> list[RenderableType]:
    """The table over all layers of ``moesim.experiment.questions.curves``, then the sentences."""
    of_policy = whole(curves)
    return [_table(of_policy, title), *(Text(line) for line in sentences(of_policy))]


def verdict(of_policy: Mapping[str, pd.DataFrame]) -> Verdict | None:
    """What limits LRU; None unless there are curves of both LRU and MIN."""
    if not {"lru", "min"} <= of_policy.keys():
        return None
    lru, best = (of_policy[kind]["misses"].to_numpy() for kind in ("lru", "min"))
    return Verdict.of(lru, best)


def _table(of_policy: Mapping[str, pd.DataFrame], title: str) -> Table:
    """A row a number of slots: the miss ratio of each policy, and LRU's misses beside MIN's."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    first = next(iter(of_policy.values()))
    table.add_column("slots", justify="right")
    for kind in of_policy:
        table.add_column(f"{kind}\n%", justify="right")
    found = verdict(of_policy)
    if found:
        for heading in ("gap\n%", "cold\n%"):
            table.add_column(heading, justify="right")
        table.add_column("limit", no_wrap=True)
    for slots in shown_slots(len(first)):
        ratios = [percent(rows["miss_ratio"][slots]) for rows in of_policy.values()]
        cells = [one.removesuffix(" %") for one in ratios]
        table.add_row(str(slots), *cells, *(_limit(found, first, slots) if found else ()))
    table.caption = f"misses of {int(first['activations'].iloc[0]):,} activations, from empty slots"
    if found:
        table.caption += "; gap: lru over min; cold: first uses, of min's misses"
    return table


def _limit(found: Verdict, rows: pd.DataFrame, slots: int) -> list[str]:
    gap = found.replacement[slots - 1] / max(int(rows["activations"].iloc[0]), 1)
    shares = [
        percent(value).removesuffix(" %") for value in (gap, found.compulsory_share[slots - 1])
    ]
    return [*shares, found.limits[slots - 1]]


def shown_slots(most: int) -> list[int]:
    """At most MOST_ROWS numbers of slots from 1 to ``most``, evenly spread."""
    places = np.linspace(1, most, MOST_ROWS).round().astype(int)
    return [int(place) for place in np.unique(places)]


def sentences(of_policy: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """The slots that reach most of the gain, by policy; then what limits LRU where."""
    reached = {kind: slots_for(rows["misses"].to_numpy()) for kind, rows in of_policy.items()}
    listed = ", ".join(f"{kind} {slots}" for kind, slots in reached.items())
    yield f"slots that save {MOST:.0%} of what all experts' slots save over one: {listed}"
    found = verdict(of_policy)
    if found is None:
        yield "no verdict: it compares lru with min; name both in --policy"
        return
    for limit, slots in spans(found.limits):
        yield f"{slots}: {limit}; {MEANING[limit]}"


def spans(limits: list[str]) -> Iterator[tuple[str, str]]:
    """Each run of equal limits, and its slots in words."""
    for limit, run in groupby(enumerate(limits, 1), lambda pair: pair[1]):
        slots: list[Any] = [at for at, _ in run]
        last = f" to {slots[-1]}" if len(slots) > 1 else ""
        yield limit, f"{slots[0]}{last} slot{'s' if slots[-1] > 1 else ''}"
