"""Copies and what the host reads, on links that they share max-min fairly, compiled: ``FairLinks``
of ``des``, from arrival to arrival.

Bytes and instants are numbers of twice a float's precision, off by some 1e-25 ns: what is told of
an arrival is as of exact numbers but where it is so close to ``SAME_NS`` above a nanosecond.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from moesim.engine.instants import NEVER, SAME_NS
from moesim.engine.replay.clock.twice import Twice, cut, is_below, less, over, plus, product, times
from moesim.runtime.compiled import inlined, record, types

SECOND = 1e9


class Ways(NamedTuple):
    """The links of flows, first of each GPU's copies, then of what the host reads for each: which
    each ``crosses`` bool[flows, links], and their ``capacity`` int64[links] in bytes a second.
    """

    crosses: Any
    capacity: Any


class Flows(NamedTuple):
    """What moves over shared links at the instant ``now`` int64[1] and a ``part`` float64[1, 2] of
    a nanosecond more. By flow: whether it is ``moving`` bool[flows]; if it is not, when it
    ``begins`` int64[flows] (``NEVER`` where nothing is to do) and with what ``amount`` of bytes;
    if it is, the bytes that are ``left`` float64[flows, 2], times 1e9, and their ``rate``
    float64[flows, 2] a second. It has ``arrived`` bool[flows] if it did so last. ``waits``
    bool[flows] and ``spare`` float64[links, 2] are room to share.
    """

    now: Any
    part: Any
    moving: Any
    begins: Any
    amount: Any
    left: Any
    rate: Any
    arrived: Any
    waits: Any
    spare: Any


_PAIRS, _MASK, _FLAT = types.float64[:, ::1], types.boolean[::1], types.int64[::1]
WAYS = record(Ways, types.boolean[:, ::1], _FLAT)
FLOWS = record(Flows, _FLAT, _PAIRS, _MASK, _FLAT, _FLAT, _PAIRS, _PAIRS, _MASK, _MASK, _PAIRS)


@inlined
def _tightest(ways: Any, flows: Any) -> tuple[int, Twice]:
    """The link that has least for each of the flows that still wait, -1 without one, and how much
    that is.
    """
    tight, least = -1, (0.0, 0.0)
    for link in range(len(ways.capacity)):
        users = 0
        for flow in range(len(flows.moving)):
            users += flows.waits[flow] and ways.crosses[flow, link]
        if users > 0:
            each = over((flows.spare[link, 0], flows.spare[link, 1]), (float(users), 0.0))
            if tight < 0 or is_below(each, least):
                tight, least = link, each
    return tight, least


@inlined
def _take(ways: Any, flows: Any, flow: int, rate: Twice) -> None:
    """A flow has its ``rate``, which its links have less for the others."""
    flows.waits[flow] = False
    flows.rate[flow, 0], flows.rate[flow, 1] = rate
    for link in range(len(ways.capacity)):
        if ways.crosses[flow, link]:
            left = less((flows.spare[link, 0], flows.spare[link, 1]), rate)
            flows.spare[link, 0], flows.spare[link, 1] = left


@inlined
def _share(ways: Any, flows: Any) -> None:
    """Give every flow its rate by progressive filling: the tightest link fixes that of its flows,
    then the next.
    """
    for link in range(len(ways.capacity)):
        flows.spare[link, 0], flows.spare[link, 1] = float(ways.capacity[link]), 0.0
    for flow in range(len(flows.moving)):
        flows.waits[flow] = flows.moving[flow]
    tight, rate = _tightest(ways, flows)
    while tight >= 0:
        for flow in range(len(flows.moving)):
            if flows.waits[flow] and ways.crosses[flow, tight]:
                _take(ways, flows, flow, rate)
        tight, rate = _tightest(ways, flows)


@inlined
def _move(flows: Any, passed: Twice) -> None:
    """Move every flow for so many nanoseconds."""
    for flow in range(len(flows.moving)):
        if flows.moving[flow]:
            moved = times((flows.rate[flow, 0], flows.rate[flow, 1]), passed)
            left = less((flows.left[flow, 0], flows.left[flow, 1]), moved)
            flows.left[flow, 0], flows.left[flow, 1] = left


@inlined
def _instant(flows: Any, takes: Twice) -> tuple[int, Twice]:
    """When that is which ``takes`` so long: whole nanoseconds after ``now``, and a part of one."""
    whole, part = cut(plus((flows.part[0, 0], flows.part[0, 1]), takes))
    return whole, part if part[0] > SAME_NS else (0.0, 0.0)


@inlined
def next_arrivals(ways: Any, flows: Any) -> int:
    """Let flows begin and move until the next of them arrive; returns that instant, rounded up."""
    while True:
        begins, first, soonest = NEVER, -1, (0.0, 0.0)
        for flow in range(len(flows.moving)):
            if not flows.moving[flow]:
                begins = min(begins, flows.begins[flow])
                continue
            left = (flows.left[flow, 0], flows.left[flow, 1])
            takes = over(left, (flows.rate[flow, 0], flows.rate[flow, 1]))
            if first < 0 or is_below(takes, soonest):
                first, soonest = flow, takes
        since = (flows.part[0, 0], flows.part[0, 1])
        whole, part = _instant(flows, soonest)
        arrives = flows.now[0] + whole + (part[0] > 0)
        if first >= 0 and arrives <= begins:
            _move(flows, less(plus((float(whole), 0.0), part), since))
            flows.now[0] += whole
            flows.part[0, 0], flows.part[0, 1] = part
            for flow in range(len(flows.moving)):
                ends = flow == first or flows.left[flow, 0] <= flows.rate[flow, 0] * SAME_NS
                flows.arrived[flow] = flows.moving[flow] and ends
                flows.moving[flow] = flows.moving[flow] and not ends
            _share(ways, flows)
            return int(arrives)
        if begins == NEVER:
            raise AssertionError("nothing is on its way")
        _move(flows, less((float(begins - flows.now[0]), 0.0), since))
        flows.now[0], flows.part[0, 0], flows.part[0, 1] = begins, 0.0, 0.0
        for flow in range(len(flows.moving)):
            if not flows.moving[flow] and flows.begins[flow] == begins:
                flows.moving[flow], flows.begins[flow] = True, NEVER
                flows.left[flow, 0], flows.left[flow, 1] = product(
                    float(flows.amount[flow]), SECOND
                )
        _share(ways, flows)
