"""What prices may move of what a search found."""

from __future__ import annotations

import pandas as pd

from moesim.report.amounts import number, percent
from moesim.report.run.trust import sweep_trust
from moesim.sweep.limit import Limit
from moesim.sweep.probes import Found, Probe
from moesim.sweep.words import last_word


def trust_of(found: Found) -> list[str]:
    """The range by prices of what binds at the answer, the values between which that puts the
    answer, and what the times of its run rest on.
    """
    answer = found.best or found.first_broken
    if answer is None or answer.status != "ok":
        return []
    ranged = [one for one in found.limits if one.metric in answer.prices]
    lines = [_at(answer, one) for one in ranged]
    known = [one for one in found.probes if one.prices]
    if ranged and len(known) > 1:
        lines.append(_between(found, known, ranged))
    return [*lines, *sweep_trust(pd.DataFrame([answer.every]))]


def _at(answer: Probe, limit: Limit) -> str:
    low, high = answer.prices[limit.metric]
    value = number(answer.numbers[limit.metric])
    sure = percent(answer.every["price_interval.confidence"])
    ends = f"{number(low)} to {number(high)}"
    return f"prices: at {answer.text} {limit.metric} is {value}, and may be {ends} ({sure})"


def _between(found: Found, known: list[Probe], limits: list[Limit]) -> str:
    """The largest value that keeps ``limits`` at the hard end of their ranges, and the least above
    it that breaks one at the easy end.
    """
    kept = [one for one in known if _keeps(one, limits, hard=True)]
    least = kept[-1].value if kept else 0.0
    lost = [one for one in known if one.value > least and not _keeps(one, limits, hard=False)]
    low = f"{kept[-1].text}" if kept else f"less than {known[0].text}, the least,"
    high = lost[0].text if lost else f"more than {known[-1].text}, the most"
    what = f"the largest {last_word(found.path)} may be anything from {low} to {high}"
    return f"prices: by that {what}, of what was tried"


def _keeps(probe: Probe, limits: list[Limit], *, hard: bool) -> bool:
    return all(one.holds(probe.prices[one.metric][(one.sign == "<=") == hard]) for one in limits)
