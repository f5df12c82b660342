"""When it is certain, before its end, that a run of served requests breaks a limit."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moesim.metrics.served import MS, SECOND
from moesim.metrics.service_level import Service
from moesim.sweep.limit import Limit
from moesim.workload.schedule import Ints
from moesim.workload.serving.requests.passes import shown_with
from moesim.workload.serving.run import Serving
from moesim.workload.serving.state import (
    ARRIVAL,
    BEGIN,
    COMING,
    DROPS,
    GIVES,
    NEVER,
    NONE,
    PREEMPTIONS,
    REJECTED,
    STATUS,
    WHO,
    State,
)
from moesim.workload.serving.stepping.host import after_step, entries_of

EVERY = 8
"""Steps from one look to the next."""
ROUNDING = 1e-9
"""By so much a sum, or a number between two others, may be off."""
_TIME = re.compile(r"(mean|median|p50|p90|p95|p99)_(ttft|tpot|e2el|itl)_ms")
_OF_SERVICE = re.compile(r"slo_attainment\.(all|ttft|tpot|e2el)")
Bools = NDArray[np.bool_]


class CertainError(Exception):
    """A run that will break ``limit``, however it goes on."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit)  # which engines raise again
        self.limit = limit


class Verdict:
    """Sees the steps of ``serving`` end, and raises a CertainError once one of ``limits`` is broken
    whatever comes: of each request what its times are at the least is known, its tokens' instants
    so far and that all to come are later (docs/serving.md).
    """

    def __init__(self, limits: Sequence[Limit], service: Service, serving: Serving) -> None:
        asked, self._times, self._way = serving.served.asked, serving.times, serving.way_ns
        self._limits, self._service, self._outputs = limits, service, asked.output_tokens
        self._tokens = int(asked.input_tokens.sum()), int(asked.output_tokens.sum())
        self._first, self._last = (np.full(asked.count, NONE) for _ in range(2))
        self._given, self._waited = (np.zeros(asked.count, np.int64) for _ in range(2))
        self._long = {
            one: np.zeros(asked.count, np.int64) for one in limits if "_itl_" in one.metric
        }
        self._steps = 0

    def __call__(self, state: State, step: int, ended: int) -> None:
        """``step`` has ended on every GPU."""
        who, gives = shown_with(state, step, step + 1)[[WHO, GIVES]]
        seen = ended + after_step(self._times, entries_of(state, step)) + self._times.frontend_ns
        who, gives = who[gives > 0], gives[gives > 0]
        gaps = np.where(self._last[who] == NONE, 0, seen - self._last[who])
        self._waited[who] += gaps
        for limit, long in self._long.items():
            long[who] += gaps / MS > limit.bound
        self._first[who] = np.where(self._first[who] == NONE, seen, self._first[who])
        self._last[who] = seen
        self._given[who] += gives
        if step > 1:  # what was on its way then, and lost, has been seen by now
            low, high = state.steps[BEGIN, step - 2 : step]
            np.subtract.at(self._given, *state.log[[WHO, DROPS], low:high])
        self._steps += 1
        if self._steps % EVERY == 0:
            self._look(state, ended + self._times.frontend_ns)

    def _look(self, state: State, now: int) -> None:
        """Tokens that are not there come ``now`` at the earliest."""
        sent = state.requests[ARRIVAL] - self._way
        came = state.requests[ARRIVAL] != NEVER
        least = self._at_least(state, np.where(came, sent, now), now)
        counted = self._counted(np.where(came, sent, NEVER))
        begin = int(sent[came].min()) if came.any() else now
        for limit in self._limits:
            if self._breaks(limit, state, least, counted, max(0, now - begin)):
                raise CertainError(limit)

    def _at_least(self, state: State, sent: Ints, now: int) -> dict[str, Ints]:
        """By time, ns of each request at the least; 0 of those that may yet be rejected."""
        status = state.requests[STATUS]
        there = (status != COMING) & (status != REJECTED)
        first = np.where(self._first == NONE, now, self._first)
        done = self._given == self._outputs
        last = np.where(done, self._last, np.maximum(self._last, now))
        many = there & (self._outputs > 1)
        return {
            "ttft": np.where(there, first - sent, 0),
            "e2el": np.where(there, last - sent, 0),
            "tpot": np.where(many & (self._first != NONE), last - first, 0),
        }

    def _counted(self, sent: Ints) -> Bools:
        """Which certainly come behind the warm-up."""
        before = np.searchsorted(np.sort(sent), sent)
        behind: Bools = (sent != NEVER) & (before >= (self._service.warm_up or 0))
        return behind

    def _breaks(
        self, limit: Limit, state: State, least: dict[str, Ints], counted: Bools, spent_ns: int
    ) -> bool:
        rejected = int((state.requests[STATUS] == REJECTED).sum())
        if found := _TIME.fullmatch(limit.metric):
            if limit.sign != "<=":
                return False
            return self._too_long(limit, found[1], found[2], least, counted, rejected)
        name, count, seconds = limit.metric, len(counted), spent_ns / SECOND
        if limit.sign == "<=":
            known = {"rejected": rejected, "preemptions": int(state.numbers[PREEMPTIONS])}
            return name in known and known[name] > limit.bound
        bad = self._bad(least)
        inputs, outputs = self._tokens
        most = {
            "request_throughput": count - rejected,
            "output_throughput": outputs,
            "total_token_throughput": inputs + outputs,
            "request_goodput": count - rejected - int(bad["all"].sum()),
        }
        if name in most:
            return most[name] < limit.bound * seconds * (1 - ROUNDING)
        if found := _OF_SERVICE.fullmatch(name):
            whole = count - (self._service.warm_up or 0)
            kept = whole - int((bad[found[1]] & counted).sum()) if found[1] in bad else whole
            return whole > 0 and kept < limit.bound * whole * (1 - ROUNDING)
        return False

    def _too_long(
        self, limit: Limit, which: str, time: str, least: dict[str, Ints], counted: Bools,
        rejected: int,
    ) -> bool:  # fmt: skip
        """Whether a mean, or a percentile, of as many values as there may be is above the bound."""
        most = len(counted) - max(rejected, self._service.warm_up or 0)
        if time == "itl":
            most = int((self._outputs - 1).sum())
            long, total = int(self._long[limit][counted].sum()), float(self._waited[counted].sum())
        else:
            per = np.maximum(self._outputs - 1, 1) if time == "tpot" else 1
            ms = np.where(counted, least[time] / per / MS, 0.0)
            most = min(most, int((self._outputs > 1).sum())) if time == "tpot" else most
            long, total = int((ms * (1 - ROUNDING) > limit.bound).sum()), float(ms.sum()) * MS
        if most <= 0:
            return False
        if which == "mean":
            return total / MS / most > limit.bound * (1 + ROUNDING)
        percent = 50 if which == "median" else int(which[1:])
        return long >= most - (most - 1) * percent // 100

    def _bad(self, least: dict[str, Ints]) -> dict[str, Bools]:
        """Which requests certainly break each limit that is promised, and any of them."""
        bad = {}
        for name, limit in self._service.limits_ms.items():
            per = np.maximum(self._outputs - 1, 1) if name == "tpot" else 1
            bad[name] = least[name] / per / MS > limit
        none = np.zeros(len(self._outputs), np.bool_)
        return {"all": np.logical_or.reduce([none, *bad.values()]), **bad}
