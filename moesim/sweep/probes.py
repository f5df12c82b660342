"""The runs of a search, and what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moesim.sweep.limit import Limit

REFUSED = "cannot_run"
"""The status of a value that is no experiment: too long for the model, say."""
CUT = "cut_short"
"""The status of a run that was ended once it was certain that it breaks a limit."""
MOST_STEPS, MOST_TOKENS = 1 << 15, 1 << 20
"""Of a run that had more than the one before it, as more requests have: more is not tried."""
RATES = ("request_rate", "scale_rate", "ramp_up_to")
"""Names of what brings the same requests in less time."""


@dataclass(frozen=True)
class Probe:
    """A run at ``value``: the numbers by metric, its status, and which limits it ``broke``.
    ``every``: all that its summary says but how long the simulation took; ``prices``: by metric the
    ends of its interval by prices, where it has one; ``reason``: why it could not run;
    ``at_once``: its rate brings all requests before one has ended, so that it says nothing of more.
    """

    value: float
    text: str
    status: str
    numbers: Mapping[str, float | None]
    broke: tuple[Limit, ...]
    every: Mapping[str, Any] = field(default_factory=dict, repr=False)
    reason: str = ""
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict, repr=False)
    at_once: bool = False

    @property
    def passed(self) -> bool:
        """Whether it keeps all limits."""
        return not self.broke

    @property
    def is_long(self) -> bool:
        """Whether it had very many steps or tokens."""
        return self._of("steps") >= MOST_STEPS or self._of("tokens") >= MOST_TOKENS

    @property
    def is_last(self) -> bool:
        """Whether no more is asked, whatever it would be."""
        return self.is_long or self.at_once

    def longer(self, than: Probe) -> bool:
        """Whether it had more tokens in its steps."""
        return self._of("tokens") > than._of("tokens")

    def nearer(self, than: Probe) -> bool:
        """Whether it breaks nothing but what another one does, and that by less."""
        return self.status == "ok" and all(
            one in than.broke and self._off(one) < than._off(one) for one in self.broke
        )

    def only_helps(self, than: Probe, limits: Sequence[Limit]) -> bool:
        """Whether one of ``limits`` is further from being broken than in another run, or broken by
        less, and none the other way; False where one of the runs lacks a number.
        """
        ends = [(one.sign, than.numbers[one.metric], self.numbers[one.metric]) for one in limits]
        known = [(sign, a, b) for sign, a, b in ends if a is not None and b is not None]
        gains = [a - b if sign == "<=" else b - a for sign, a, b in known]
        return len(known) == len(ends) and min(gains) >= 0 < max(gains)

    def _of(self, key: str) -> int:
        return int(self.every.get(key) or 0)

    def _off(self, limit: Limit) -> float:
        value = self.numbers[limit.metric]
        return math.inf if value is None else abs(value - limit.bound)


@dataclass(frozen=True)
class Found:
    """All probes in order of their values, and the ``last`` that ran; ``path`` is what was varied,
    under ``limits``; ``more_helps``: a larger value was seen to help, and to harm nothing, so that
    the least that keeps all limits is the answer.
    """

    path: str
    limits: tuple[Limit, ...]
    probes: tuple[Probe, ...] = field(default=())
    last: Probe | None = None
    more_helps: bool = False

    @property
    def ends_alike(self) -> bool:
        """Whether the two largest values give the same run."""
        last = [one.every for one in self.probes[-2:]]
        return len(last) > 1 and bool(last[0]) and last[0] == last[1]

    @property
    def ends_long(self) -> bool:
        """Whether no more was tried since runs get long with the value."""
        return gets_long(self.probes)

    @property
    def ends_at_once(self) -> bool:
        """Whether no more was tried since the largest rate brings all requests at once."""
        return self.probes[-1].at_once

    @property
    def best(self) -> Probe | None:
        """The largest value that keeps all limits, as all do that were tried between it and the
        least that does; the least where ``more_helps``; None where none does.
        """
        if self.more_helps:
            return self.least
        first = self.first_broken
        kept = [one for one in self.probes if one.passed]
        below = [one for one in kept if first is None or one.value < first.value]
        return below[-1] if below else None

    @property
    def first_broken(self) -> Probe | None:
        """The least value above one that keeps all limits that breaks one, or the least of all
        where none keeps them; None where none did.
        """
        least = self.least.value if self.least else -math.inf
        return next((one for one in self.probes if not one.passed and one.value > least), None)

    @property
    def least(self) -> Probe | None:
        """The least value that keeps all limits; None where none does."""
        return next((one for one in self.probes if one.passed), None)

    @property
    def too_small(self) -> Probe | None:
        """The largest value below all that keep all limits; None where none of those broke one."""
        least = self.least.value if self.least else -math.inf
        return next((one for one in reversed(self.probes) if one.value < least), None)

    def above(self, one: Probe) -> Probe | None:
        """The next larger value than that of ``one`` that was tried; None: there is none."""
        return next((other for other in self.probes if other.value > one.value), None)

    @property
    def nearest(self) -> Probe | None:
        """The largest value up to which each breaks the limits by less than the one before, where
        all break some; None where that is the least.
        """
        last = self.probes[0]
        for one in self.probes[1:]:
            if not one.nearer(last):
                break
            last = one
        return None if last is self.probes[0] else last


def gets_long(probes: Sequence[Probe]) -> bool:
    """Whether the last of ``probes``, by value, is long, and longer than the one before."""
    return len(probes) > 1 and probes[-1].is_long and probes[-1].longer(probes[-2])
