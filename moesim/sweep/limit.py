"""A limit on a number of a run's summary."""

from __future__ import annotations

import re
from dataclasses import dataclass

from moesim.config.errors import InputError, Problem

_LIMIT = re.compile(r"\s*([\w.]+)\s*(<=|>=)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Limit:
    """A number of ``summary.json`` that is at most, or at least, so much."""

    metric: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Limit:
        """``p99_ttft_ms<=500``; an InputError for anything else."""
        found = _LIMIT.fullmatch(text)
        try:
            metric, sign, bound = found.groups() if found else ("", "", "")
            return cls(metric, sign, float(bound))
        except ValueError:
            what = f"'{text}' is no limit; write METRIC<=NUMBER or METRIC>=NUMBER"
            what += ", as in 'p99_ttft_ms<=500'"
            raise InputError([Problem("--sla", "", what)]) from None

    def holds(self, value: float | None) -> bool:
        """Whether ``value`` keeps it; one that is not known does not."""
        if value is None:
            return False
        return value <= self.bound if self.sign == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.bound:g}"
