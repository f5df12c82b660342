"""A limit on a number of a run's summary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from moesim.config.errors import InputError, Problem

_LIMIT = re.compile(r"\s*([\w.]+)\s*(<=|>=)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*")
_NEVER_0 = re.compile(r"((ttft|tpot|itl|e2el|duration)_ms|throughput)$")
"""Numbers that are 0 of no run; misses, stalls or shares may be."""
_SHARE = re.compile(r"(slo_attainment|time_share|routing_share|price_share)\..+|.+_(share|ratio)")
"""Numbers that are 1 at most."""


@dataclass(frozen=True)
class Limit:
    """A number of ``summary.json`` that is at most, or at least, so much."""

    metric: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Limit:
        """``p99_ttft_ms<=500``; an InputError for anything else, and for what every run keeps, or
        none.
        """
        found = _LIMIT.fullmatch(text)
        try:
            metric, sign, bound = found.groups() if found else ("", "", "")
            limit = cls(metric, sign, float(bound))
        except ValueError:
            what = "is no limit; write METRIC<=NUMBER or METRIC>=NUMBER"
        else:
            if not (wrong := limit._idle()):
                return limit
            what = f"is kept by {wrong}"
        raise InputError([Problem("--sla", "", f"'{text}' {what}, as in 'p99_ttft_ms<=500'")])

    @classmethod
    def parse_all(cls, texts: Sequence[str]) -> list[Limit]:
        """All of ``texts``; an InputError for two of one number that no run keeps, too."""
        limits = dict(zip(texts, map(cls.parse, texts), strict=True))
        for (text, one), (other, two) in permutations(limits.items(), 2):
            asked = (one.metric, one.sign, two.sign) == (two.metric, "<=", ">=")
            if asked and one.bound < two.bound:
                what = f"'{text}' and '{other}' are kept by no run together; leave out one"
                raise InputError([Problem("--sla", "", what)])
        return list(limits.values())

    def _idle(self) -> str:
        """Which runs keep it, where that is known, and what to write; "" where runs decide."""
        if self.sign == ">=" and self.bound > 1 and _SHARE.fullmatch(self.metric):
            return "no run, as a share is 1 at most; write 0.9 for 90 %"
        if self.sign == ">=":
            return "every run; write a number above 0" if self.bound <= 0 else ""
        takes_some = self.bound == 0 and _NEVER_0.search(self.metric)
        return "no run; write a number above 0" if self.bound < 0 or takes_some else ""

    def holds(self, value: float | None) -> bool:
        """Whether ``value`` keeps it; one that is not known does not."""
        if value is None:
            return False
        return value <= self.bound if self.sign == "<=" else value >= self.bound

    def nearer(self, value: float | None, other: float | None) -> bool:
        """Whether ``value`` is nearer to keeping it than the ``other``."""
        if value is None or other is None:
            return False
        return value < other if self.sign == "<=" else value > other

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.bound:g}"
