"""The table: simulated beside published, and how far single assumptions move each number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from moesim.reproduce.parameters import Value
from moesim.reproduce.published import ABOVE, BELOW, BLIND, PUBLISHED, Published, ids
from moesim.reproduce.study import Answer

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("id", "setting", "simulated", "low", "high", "blind", "published", "source", "note")
SENSITIVITY = ("id", "parameter", "value", "simulated")
ROUNDING = 0.005
"""Published numbers have three digits: what is nearer than this share agrees."""
COMPUTED = "simulated"


class Change(NamedTuple):
    """One parameter at another value than its default, or none."""

    parameter: str
    value: Value


Found = Mapping[Change | None, Mapping[str, Answer]]
"""Answers by id, at the defaults (None) and under each change."""


def table_of(found: Found, missing: Mapping[str, str]) -> pd.DataFrame:
    """A row for each id that was found; ``missing`` says by id what explains a disagreement."""
    import pandas as pd

    base = found[None]
    rows = [
        _row(base[name], {change: answers[name].value for change, answers in found.items()
                          if name in answers}, missing.get(name, ""))
        for name in ids() if name in base
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def sensitivity_of(found: Found) -> pd.DataFrame:
    """What each id is under each change that was tried."""
    import pandas as pd

    rows = [
        (name, change.parameter, change.value, answer.value)
        for change, answers in found.items()
        if change is not None
        for name, answer in answers.items()
    ]
    return pd.DataFrame(rows, columns=list(SENSITIVITY))


def _row(answer: Answer, values: Mapping[Change | None, float], missing: str) -> tuple[object, ...]:
    low, high = min(values.values()), max(values.values())
    known = PUBLISHED.get(answer.id)
    notes = [answer.note]
    if known is not None:
        notes.append(f"published: {known.note}" if known.note else "")
        if not agrees(known, *_comparable(known, values)):
            notes.append(f"outside the range: {missing}" if missing else "outside the range")
    note = "; ".join(part for part in notes if part)
    published, source = (None, COMPUTED) if known is None else (known.value, known.source)
    blind = BLIND.get(answer.id)
    return answer.id, answer.setting, answer.value, low, high, blind, published, source, note


def _comparable(known: Published, values: Mapping[Change | None, float]) -> tuple[float, float]:
    """The least and the most of ``values``. Published bounds are of planners in one domain, so that
    a milder one does not meet them.
    """
    bound = known.note.startswith((ABOVE, BELOW))
    of_domain = [
        value for change, value in values.items()
        if not bound or change is None or change.parameter != "domain"
    ]  # fmt: skip
    return min(of_domain), max(of_domain)


def agrees(known: Published, low: float, high: float) -> bool:
    """Whether the published number is within ``low`` to ``high``, but for its rounding."""
    room = ROUNDING * abs(known.value)
    if known.note.startswith(ABOVE):
        return high >= known.value - room
    if known.note.startswith(BELOW):
        return low <= known.value + room
    return low - room <= known.value <= high + room
