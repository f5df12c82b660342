"""What prices may move of what a search found."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from moesim.report.amounts import number, percent
from moesim.report.run.trust import sweep_trust
from moesim.sweep.limit import Limit
from moesim.sweep.probes import CUT, Found, Probe
from moesim.sweep.words import last_word


def trust_of(found: Found) -> list[str]:
    """The range by prices of what binds at the answer, the values between which that puts the
    answer, and what the times of its run rest on.
    """
    answer = found.best or found.first_broken
    if answer is None or answer.status != "ok":
        return []
    lines = [_at(answer, one) for one in found.limits if one.metric in answer.prices]
    if sum(bool(one.prices) for one in found.probes) > 1:
        lines.append(between(found))
    return [*lines, *sweep_trust(pd.DataFrame([answer.every]))]


def _at(answer: Probe, limit: Limit) -> str:
    low, high = answer.prices[limit.metric]
    value = number(answer.numbers[limit.metric])
    sure = percent(answer.every["price_interval.confidence"])
    ends = f"{number(low)} to {number(high)}"
    return f"prices: at {answer.text} {limit.metric} is {value}, and may be {ends} ({sure})"


def between(found: Found) -> str:
    """The largest value that keeps all limits at the hard ends of their ranges, and the least above
    the answer that breaks one at the easy end; of a least value likewise, downwards.
    """
    whole = [one for one in found.probes if one.status != CUT]
    what = f"the {extreme(found)} {last_word(found.path)} may be anything"
    return f"prices: by that {what} {_span(found, whole)}, of what was run to its end"


def extreme(found: Found) -> str:
    """Which value is the answer."""
    return "least" if found.more_helps else "largest"


def _span(found: Found, whole: Sequence[Probe]) -> str:
    if found.more_helps:
        sure = [one for one in whole if _keeps(one, found.limits, hard=True)]
        may = [one for one in whole if _keeps(one, found.limits, hard=False)]
        low = may[0].text if may else f"more than {whole[-1].text}"
        low += " or less" * (bool(may) and may[0] is whole[0] and whole[0].value != 1)
        ran = [one for one in whole if one.status == "ok"]
        high = sure[0].text if sure else f"more than {ran[-1].text}, the most"
        return f"from {low} to {high}"
    kept = [one for one in whole if _keeps(one, found.limits, hard=True)]
    least = kept[-1].value if kept else 0.0 if found.best is None else found.best.value
    lost = [one for one in whole if one.value > least and not _keeps(one, found.limits, hard=False)]
    none = f"less than {whole[0].text}, the least,"
    none = "none that was tried" if found.best and found.too_small else none
    low = kept[-1].text if kept else none
    high = lost[0].text if lost else f"more than {whole[-1].text}, the most"
    return f"from {low} to {high}"


def _keeps(probe: Probe, limits: Sequence[Limit], *, hard: bool) -> bool:
    """Whether it keeps ``limits`` at one end of their ranges; those without are as they are."""
    return all(one.holds(_value(probe, one, hard=hard)) for one in limits)


def _value(probe: Probe, limit: Limit, *, hard: bool) -> float | None:
    ends = probe.prices.get(limit.metric)
    return probe.numbers[limit.metric] if ends is None else ends[(limit.sign == "<=") == hard]
