"""The clock where copies, and what the host reads, share links: in the experts of a layer all GPUs
go from arrival to arrival; all else is as in ``loop.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from moesim.engine.instants import NEVER
from moesim.engine.replay.clock.experts import (
    LAYER_BUFFERS,
    after_read,
    after_victim,
    copy_start,
    end_experts,
    play_launch,
    read_end,
    reads_begin,
    wait_for_reads,
)
from moesim.engine.replay.clock.flows import FLOWS, WAYS, next_arrivals
from moesim.engine.replay.clock.loop import decided_work, nothing_before
from moesim.engine.replay.clock.records import (
    CUBE,
    FILLED,
    FIXED,
    FLAT,
    GPUS,
    MOE,
    PASSES,
    STORAGE,
    TABLE,
    WEIGHTS,
    WORKS,
    Span,
)
from moesim.engine.replay.clock.steps import (
    begin_pass,
    charge,
    compiled_clock,
    end_layer,
    end_pass,
    play_dense,
    reach_experts,
)
from moesim.runtime.compiled import BUILT_IN, inlined, record, types


class Jobs(NamedTuple):
    """The bytes of each copy of ``Works``, and what it takes before these move, in ns; the same of
    experts of the host: ``hosted_bytes`` int64[MoE layers], and of those of work ``k`` in a pass,
    from ``hosted_base[k]`` and its ``step_hosted`` int64[works, passes + 1] on, ``hosted_lead``;
    what their rows take ``down`` and ``up`` int64[works, passes]. No works where nothing disturbs
    the host.
    """

    copy_bytes: Any
    copy_lead: Any
    hosted_bytes: Any
    hosted_base: Any
    step_hosted: Any
    hosted_lead: Any
    down: Any
    up: Any


class Queues(NamedTuple):
    """The copies of each GPU int64[gpus, copies, QUEUED] in order, of which so many are ``done``
    and were ``asked`` for int64[gpus]; the ``last`` of them that launches of a layer wait for
    int64[gpus, MoE layers], counted from 0, -1 without one, and when it ``came``.
    """

    queue: Any
    done: Any
    asked: Any
    last: Any
    came: Any


class Shared(NamedTuple):
    """What is to do, and on which links; what came of it so far; room for what GPUs have come to
    in a layer, int64[gpus, TURN], and the ends of its launches int64[gpus, launches].
    """

    works: Any
    jobs: Any
    ways: Any
    queues: Any
    flows: Any
    turn: Any
    ends: Any


ISSUE, BLOCKED, AFTER, THERE, LEAD, BYTES, LAYER, QUEUED = range(8)
"""Columns of a queue: when a copy is issued or, if it is ``BLOCKED`` by the one before, may be; the
launch that it waits ``AFTER`` and when it has been read, -1 without; the MoE layer whose next
launches wait for it, -1 where one of its own does.
"""
(
    LOW, HIGH, FIRST, LAST, ISSUES, READ, BEGUN, GATE, STREAMED, NEXT, COPY, OFFSET, HOSTED,
    LAST_HOSTED, HOST_END, HOST_HAS, RUNS, TURN,
) = range(18)  # fmt: skip
"""Columns of a turn: its span; when its reads have ``BEGUN``; the copy that all its launches wait
for (``GATE``, -1 none); whether the layer is ``STREAMED``, or ``CAME_AHEAD``; its ``NEXT`` launch
and the first ``COPY`` of that; what a copy's number in the queue is beyond that in the works; the
next expert of the host and the ``LAST_HOSTED``, when one ended, when host memory has all of them;
whether the GPU still ``RUNS`` launches.
"""
CAME_AHEAD = 2
JOBS = record(Jobs, *[FLAT] * 4, TABLE, FLAT, TABLE, TABLE)
QUEUES = record(Queues, CUBE, FLAT, FLAT, TABLE, TABLE)
SHARED = record(Shared, WORKS, JOBS, WAYS, QUEUES, FLOWS, TABLE, TABLE)


@inlined
def _turn_to_copy(fixed: Any, shared: Any, gpus: Any, g: int) -> None:
    """The copy engine of a GPU, if it is free, turns to the next copy."""
    flows, queues = shared.flows, shared.queues
    if flows.moving[g] or flows.begins[g] != NEVER or queues.done[g] == queues.asked[g]:
        return
    row = queues.queue[g, queues.done[g]]
    start = copy_start(row[BLOCKED] > 0, fixed.copy, row[ISSUE], row[ISSUE], gpus.copied[g])
    start = max(after_victim(start, row[AFTER], shared.ends[g]), row[THERE])
    flows.begins[g], flows.amount[g] = start + row[LEAD], row[BYTES]


@inlined
def _queue(
    shared: Any, g: int, copy: int, issue: int, blocked: int, after: int, there: int, layer: int
) -> None:
    """Queue a ``copy`` of the works."""
    row = shared.queues.queue[g, shared.queues.asked[g]]
    row[ISSUE], row[BLOCKED], row[AFTER], row[THERE] = issue, blocked, after, there
    row[LEAD], row[BYTES] = shared.jobs.copy_lead[copy], shared.jobs.copy_bytes[copy]
    row[LAYER] = layer
    if layer >= 0:
        shared.queues.last[g, layer] = shared.queues.asked[g]
    shared.queues.asked[g] += 1


@inlined
def _ask_copies(fixed: Any, works: Any, shared: Any, gpus: Any, moe: int, g: int) -> None:
    """Queue the copies of a layer whose counts are known."""
    own, known = shared.turn[g], gpus.known[g]
    for copy in range(own[FIRST], own[LAST]):
        later = works.copy_launch[copy] < 0 or own[STREAMED] > 0
        after = -1 if later else works.copy_wait[copy]
        issue = known if fixed.blocking else known + (copy - own[FIRST] + 1) * fixed.copy
        there = after_read(fixed, works.reads, moe, own[BEGUN], own[READ], copy, -1)
        _queue(shared, g, copy, issue, fixed.blocking, after, there, moe if later else -1)


@inlined
def _stream_next(passes: Any, works: Any, shared: Any, gpus: Any, p: int, g: int) -> None:
    """Queue the copies of the pass's next layer that is copied whole."""
    while gpus.to_stream[g] < len(passes.plan):
        m = gpus.to_stream[g]
        gpus.to_stream[g] += 1
        moe = passes.plan[m, MOE]
        k = moe * len(gpus.time) + g
        if moe < 0 or not passes.runs[p, m] or not works.streamed[k, p]:
            continue
        first, last = works.step_copies[k, p], works.step_copies[k, p + 1]
        for copy in range(works.copy_base[k] + first, works.copy_base[k] + last):
            _queue(shared, g, copy, gpus.time[g], 0, -1, -1, moe)
        return


@inlined
def _ask_host(fixed: Any, works: Any, shared: Any, gpus: Any, k: int, p: int, g: int) -> None:
    """The host begins with the experts of work ``k``, if it has some, when all are in its memory
    and their rows are down.
    """
    own, jobs, flow = shared.turn[g], shared.jobs, len(gpus.time) + g
    own[HOST_HAS], own[HOST_END], own[HOSTED], own[LAST_HOSTED] = -1, -1, 0, 0
    moe = k // len(gpus.time)
    if own[BEGUN] >= 0:
        last = works.reads.host[k, p]
        own[HOST_HAS] = read_end(fixed, works.reads, moe, own[BEGUN], 0, last)
        gpus.ready[g] = max(gpus.ready[g], own[HOST_HAS])
    if len(jobs.step_hosted) > 0:
        own[HOSTED] = jobs.hosted_base[k] + jobs.step_hosted[k, p]
        own[LAST_HOSTED] = jobs.hosted_base[k] + jobs.step_hosted[k, p + 1]
    if own[HOSTED] < own[LAST_HOSTED]:
        shared.flows.amount[flow] = jobs.hosted_bytes[moe]
        begins = gpus.ready[g] + jobs.down[k, p] + jobs.hosted_lead[own[HOSTED]]
        shared.flows.begins[flow] = begins


@inlined
def _begin_turn(fixed: Any, works: Any, shared: Any, gpus: Any, k: int, p: int, g: int) -> None:
    """What work ``k`` has to do in a pass; its copies are queued, if they did not come ahead."""
    span, own = decided_work(fixed, works, gpus, 0, 0, 0, k, p), shared.turn[g]
    moe = k // len(gpus.time)
    own[LOW], own[HIGH], own[FIRST], own[LAST] = span.low, span.high, span.first, span.last
    own[ISSUES], own[READ], own[NEXT], own[COPY] = span.issues, span.read, span.low, span.first
    own[BEGUN], own[GATE], own[RUNS], last = -1, -1, 1, shared.queues.last[g, moe]
    if len(works.reads.steps) > 0:
        own[BEGUN] = reads_begin(fixed, works, gpus, moe, g, k, p)
    own[STREAMED] = 1 if len(works.streamed) > 0 and works.streamed[k, p] else 0
    if last >= 0 and (own[STREAMED] > 0 or span.high > span.low):
        own[GATE], shared.queues.last[g, moe] = last, -1
        own[STREAMED] *= CAME_AHEAD
    own[OFFSET] = shared.queues.asked[g] - span.first
    if own[STREAMED] != CAME_AHEAD:
        _ask_copies(fixed, works, shared, gpus, moe, g)
    if own[STREAMED] > 0:
        own[COPY] = span.last
    if own[STREAMED] == 1:
        own[GATE], shared.queues.last[g, moe] = shared.queues.last[g, moe], -1


@inlined
def _passes_gate(shared: Any, gpus: Any, charged: Any, moe: int, g: int) -> bool:
    """Wait for the copies that all launches of a layer wait for; False if they are not there."""
    own = shared.turn[g]
    if own[GATE] >= shared.queues.done[g]:
        return False
    if own[GATE] >= 0:
        gpus.time[g] = max(gpus.time[g], shared.queues.came[g, moe])
        gpus.cursor[g] = charge(charged, g, WEIGHTS, gpus.cursor[g], gpus.time[g])
        own[GATE] = -1
    return True


@inlined
def _run_launches(
    fixed: Any, works: Any, shared: Any, gpus: Any, charged: Any, moe: int, g: int
) -> bool:
    """Run the launches whose copies have arrived, the last of these now; whether that are all."""
    own = shared.turn[g]
    while own[NEXT] < own[HIGH]:
        copy, arrived = own[COPY], -1
        while copy < own[LAST] and works.copy_launch[copy] == own[NEXT] - own[LOW]:
            copy, arrived = copy + 1, gpus.copied[g]
        if arrived >= 0 and shared.queues.done[g] < copy + own[OFFSET]:
            return False
        if own[BEGUN] >= 0:
            span = Span(own[LOW], own[HIGH], own[FIRST], own[LAST], own[ISSUES], 0, 0, own[READ])
            gpus.time[g], gpus.cursor[g] = wait_for_reads(
                fixed, works, charged, g, moe, own[BEGUN], own[NEXT], own[COPY], span,
                gpus.time[g], gpus.cursor[g], False,
            )  # fmt: skip
        gpus.time[g], gpus.cursor[g] = play_launch(
            charged, g, gpus.time[g], gpus.cursor[g], arrived, works.kernel_ns[own[NEXT]], 0
        )
        shared.ends[g, own[NEXT] - own[LOW]] = gpus.time[g]
        own[NEXT], own[COPY] = own[NEXT] + 1, copy
    return True


@inlined
def _go_on(
    fixed: Any, passes: Any, works: Any, shared: Any, gpus: Any, charged: Any, p: int, moe: int,
    g: int,
) -> None:  # fmt: skip
    """Run what a GPU may run of a layer now, and turn to its next copy."""
    own = shared.turn[g]
    if (
        own[RUNS] > 0
        and _passes_gate(shared, gpus, charged, moe, g)
        and _run_launches(fixed, works, shared, gpus, charged, moe, g)
    ):
        own[RUNS] = 0
        if own[STREAMED] == CAME_AHEAD:
            _stream_next(passes, works, shared, gpus, p, g)
    _turn_to_copy(fixed, shared, gpus, g)


@inlined
def _arrive(shared: Any, gpus: Any, now: int, flow: int) -> None:
    """A copy, or what the host reads for an expert, arrives ``now``."""
    g = flow % len(gpus.time)
    queues, own = shared.queues, shared.turn[g]
    if flow < len(gpus.time):
        gpus.copied[g], layer = now, queues.queue[g, queues.done[g], LAYER]
        queues.done[g] += 1
        if layer >= 0:
            queues.came[g, layer] = now
        return
    own[HOSTED], own[HOST_END] = own[HOSTED] + 1, now
    if own[HOSTED] < own[LAST_HOSTED]:
        shared.flows.begins[flow] = now + shared.jobs.hosted_lead[own[HOSTED]]


@inlined
def _is_at_work(turn: Any) -> bool:
    """Whether a GPU, or the host for it, has not done its part of a layer."""
    for g in range(len(turn)):
        if turn[g, RUNS] > 0 or turn[g, HOSTED] < turn[g, LAST_HOSTED]:
            return True
    return False


@inlined
def _end_turn(
    fixed: Any, works: Any, shared: Any, gpus: Any, charged: Any, m: int, k: int, p: int
) -> None:
    """What the host does for work ``k`` of layer ``m``, whose launches and experts have ended."""
    g, hosted_ns = k % len(gpus.time), 0
    own, up_ns = shared.turn[g], works.up[k, p] if len(works.up) > 0 else 0
    if len(works.reads.steps) > 0:
        gpus.cursor[g] = charge(charged, g, STORAGE, gpus.cursor[g], own[HOST_HAS])
    if len(shared.jobs.step_hosted) == 0:
        hosted_ns = works.hosted[k, p] if len(works.hosted) > 0 else 0
    elif own[HOST_END] >= 0:
        hosted_ns = own[HOST_END] - gpus.ready[g] + shared.jobs.up[k, p] - up_ns
    what = own[LOW], own[HIGH], own[FIRST], own[LAST], own[ISSUES], hosted_ns, up_ns, own[READ]
    span = Span(*what)
    end_experts(fixed, gpus, charged, m, g, k, span, gpus.time[g], gpus.cursor[g])


@inlined
def _play_experts(
    fixed: Any, passes: Any, works: Any, shared: Any, gpus: Any, charged: Any, p: int, m: int
) -> None:
    """The experts of layer ``m`` on all GPUs, from the end of dispatch on."""
    moe, number = passes.plan[m, MOE], len(gpus.time)
    for g in range(number):
        _begin_turn(fixed, works, shared, gpus, moe * number + g, p, g)
        gpus.time[g] = max(gpus.ready[g], gpus.free[g])
        _ask_host(fixed, works, shared, gpus, moe * number + g, p, g)
        _go_on(fixed, passes, works, shared, gpus, charged, p, moe, g)
    while _is_at_work(shared.turn):
        now = next_arrivals(shared.ways, shared.flows)
        for flow in range(len(shared.flows.arrived)):
            if shared.flows.arrived[flow]:
                _arrive(shared, gpus, now, flow)
                _go_on(fixed, passes, works, shared, gpus, charged, p, moe, flow % number)
    for g in range(number):
        _end_turn(fixed, works, shared, gpus, charged, m, moe * number + g, p)


def sharing_with(before: Any) -> Callable[..., None]:
    """The clock of works that are decided, with what happens ``before`` the layers of a pass."""

    def play_passes(
        fixed: Any, passes: Any, shared: Any, gpus: Any, filled: Any, undecided: Any, decide: Any,
        first_of: Any,
    ) -> None:  # fmt: skip
        """Play the passes of a chunk; from ``undecided`` on it is for ``before``."""
        works = shared.works
        streams = len(works.streamed) > 0 and fixed.streams_ahead
        for p in range(len(passes.runs)):
            charged = filled.charges[p]
            begin_pass(gpus, filled.starts, p)
            before(fixed, gpus, filled, undecided, decide, first_of, p)
            for g in range(len(gpus.time) if streams else 0):
                gpus.to_stream[g] = 0
                for _ in range(LAYER_BUFFERS):
                    _stream_next(passes, works, shared, gpus, p, g)
                _turn_to_copy(fixed, shared, gpus, g)
            for m in range(len(passes.plan)):
                if not passes.runs[p, m]:
                    continue
                if passes.plan[m, MOE] < 0:
                    play_dense(fixed, passes, gpus, p, m)
                    continue
                reach_experts(fixed, passes, gpus, filled, charged, p, m)
                _play_experts(fixed, passes, works, shared, gpus, charged, p, m)
                end_layer(passes, gpus, filled, charged, p, m)
            end_pass(fixed, passes, gpus, filled.ends, charged, p)

    play_passes.__qualname__ = f"play_sharing{BUILT_IN}{before.__name__}"
    return play_passes


_CLOCK = FIXED, PASSES, SHARED, GPUS, FILLED
play_sharing = compiled_clock(types.void(*_CLOCK, *[types.int64] * 3))(sharing_with(nothing_before))
"""The clock of works that are decided beforehand, over shared links."""
