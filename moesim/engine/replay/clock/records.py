"""What the compiled clock reads and writes, as named arrays, and their types."""

from __future__ import annotations

from typing import Any, NamedTuple

from moesim.runtime.compiled import record, types
from moesim.trace.routing import Phase

ATTENTION, GATE, DISPATCH, EXPERTS, HOST, WEIGHTS, BARRIER, CPU, STORAGE = range(9)
"""Places in ``CHARGES``."""
DECODE, ENCODE = int(Phase.DECODE), int(Phase.ENCODE)
MOE, FIRST_STAGE = range(2)
"""Columns of the plan: the MoE layer (or -1), then for each stage the row of its time."""
BEFORE_GATE, OF_GATE, PERMUTE, BESIDE, AFTER = (FIRST_STAGE + stage for stage in range(5))
LAUNCH_ATTENTION, LAUNCH_SEQUENCE, LAUNCH_DENSE, LAUNCH_GATE = range(4)
LAUNCH_SHARED, LAUNCH_EXPERTS, LAUNCH_COMBINE, WAITS = range(4, 8)
"""Columns of the host's times, as in ``HostTimes``."""
MOVED, MOVING = range(2)
"""Places in ``Gpus.moved``."""
BEGIN, END, STALL, WAIT = range(4)
"""Places in a record."""


class Fixed(NamedTuple):
    """What is the same in every pass, in ns where it is a time.

    Of the host: its times by layer ``hosts`` int64[model layers, 8], what it launches in the head,
    and what a copy takes of it. ``blocking``: it waits for copies; ``overlaps``: copies run beside
    kernels; ``streams_ahead``: a layer that is copied whole is copied while another one computes.
    ``exchange`` of counts; ``agrees``: GPUs agree on a capacity; ``gathers``: the
    ``dispatch`` of passes comes in place of the exchange. ``copy_ns`` int64[MoE layers] of an
    expert; ``wait_ns`` int64[gpus, MoE layers] for the counts; ``always`` int64[MoE layers x gpus]:
    kernels that the host launches in every pass, -1: the launches. ``read_*`` int64[MoE layers] as
    ``ReadTimes``, empty where nothing is read; ``node`` int64[gpus] of each GPU;
    ``rooms`` of layers that host memory has for a time, 0 where it is a cache.
    """

    hosts: Any
    head: Any
    copy: Any
    blocking: Any
    overlaps: Any
    streams_ahead: Any
    exchange: Any
    agrees: Any
    gathers: Any
    copy_ns: Any
    wait_ns: Any
    always: Any
    read_busy: Any
    read_after: Any
    read_lead: Any
    node: Any
    rooms: Any


class Passes(NamedTuple):
    """A run of passes: ``plan`` int64[model layers, 6]; which layers each ``runs`` bool[passes,
    model layers] and its ``phase`` uint8[passes]; the time of stages ``stage_ns`` int64[rows,
    passes, gpus] and of its ``head`` int64[passes, gpus]; ``dispatch`` and ``combine`` int64[MoE
    layers, passes].
    """

    plan: Any
    runs: Any
    phase: Any
    stage_ns: Any
    head: Any
    dispatch: Any
    combine: Any


class Works(NamedTuple):
    """What is to do of each work, (MoE layer, GPU), as in ``chunk.Work``; ``*_base`` int64[works]:
    where its part begins. ``hosted`` int64[works, passes] ns of the host's experts, from their rows
    down on, and of these up where that is a copy of the engine, ``up``, or part of it; ``reads`` as
    ``StorageReads``. ``there``: when
    what was in flight arrives, by launch, and ``copy_issued``, where the clock decides; then there
    is one work at a time. ``copy_ns`` by copy, without elements where all of a layer take as long.
    Without rows or elements where nothing is read over the link, streamed or hosted.
    """

    launch_base: Any
    step_launches: Any
    kernel_ns: Any
    read_ns: Any
    there: Any
    copy_base: Any
    step_copies: Any
    copy_launch: Any
    copy_wait: Any
    copy_issued: Any
    copy_ns: Any
    streamed: Any
    hosted: Any
    up: Any
    reads: Any

    @property
    def copies(self) -> int:
        """All copies."""
        return int(self.step_copies[:, -1].sum())


class StorageReads(NamedTuple):
    """What works read from storage, without elements where host memory holds all experts:
    ``steps`` int64[works, passes + 1] offsets by pass; of the reads of a pass, counted from 0, the
    last that a ``copy`` waits for, a ``launch``, and the ``host``'s experts int64[works, passes];
    -1 none. Where the clock decides they are times, of the one work that there is. ``base``
    int64[works]: where the reads of each begin, of which ``ends`` and ``after``, and by copy
    ``lead``, are as ``host_cache.Reads`` has them; without elements where all of a layer are alike.
    """

    steps: Any
    copy: Any
    launch: Any
    host: Any
    base: Any
    ends: Any
    after: Any
    lead: Any


class Gpus(NamedTuple):
    """The GPUs' clocks int64[gpus], carried from pass to pass: the ``time``, the ``cursor`` up to
    which it is charged, the ``host``'s time, when the copy engine is free (``copied``). In a layer:
    when its counts are ``known``, when the GPU is ``free`` of the shared expert, when its rows are
    ``ready``; the next layer ``to_stream`` and the end of copies that are ``coming`` int64[gpus,
    MoE layers], -1 without; ``launch_end`` int64[launches]; when each node's ``drive``
    int64[nodes] is free. When the last read of a layer that comes is ``stored`` int64[gpus, MoE
    layers]; when each room of a host became ``vacant`` int64[gpus, rooms], the layers that were
    read into them so far, ``entered``, and whether the one that runs is in one, ``housed``
    int64[gpus]. ``moved`` int64[2]: when experts that move beside a pass are there, and what
    waiting for them is charged to.
    """

    time: Any
    cursor: Any
    host: Any
    copied: Any
    known: Any
    free: Any
    ready: Any
    to_stream: Any
    coming: Any
    launch_end: Any
    drive: Any
    stored: Any
    vacant: Any
    entered: Any
    housed: Any
    moved: Any


class Filled(NamedTuple):
    """What is filled in: ``starts`` int64[passes, gpus] (first the instants before which no pass
    begins), ``ends``, ``charges`` int64[passes, gpus, categories] beyond those of terms and, where
    they are kept, ``records`` int64[passes, MoE layers, gpus, 4] of begin, end, stall and barrier.
    """

    starts: Any
    ends: Any
    charges: Any
    records: Any


class Span(NamedTuple):
    """What a work has to do in a pass: its launches ``low:high`` and copies ``first:last``, how
    many copies the host ``issues``, how long it computes, ``hosted_ns``, and what the copy of its
    rows up takes, ``up_ns``; its reads begin at ``read``, where these differ.
    """

    low: Any
    high: Any
    first: Any
    last: Any
    issues: Any
    hosted_ns: Any
    up_ns: Any
    read: Any


FLAT, TABLE, CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
FOUR, MASK = types.int64[:, :, :, ::1], types.boolean[:, ::1]
FIXED = record(Fixed, TABLE, *[types.int64] * 8, FLAT, TABLE, *[FLAT] * 5, types.int64)
PASSES = record(Passes, TABLE, MASK, types.uint8[::1], CUBE, *[TABLE] * 3)
READS = record(StorageReads, TABLE, FLAT, FLAT, TABLE, *[FLAT] * 4)
WORKS = record(Works, FLAT, TABLE, *[FLAT] * 4, TABLE, *[FLAT] * 4, MASK, TABLE, TABLE, READS)
GPUS = record(Gpus, *[FLAT] * 8, TABLE, FLAT, FLAT, TABLE, TABLE, *[FLAT] * 3)
FILLED = record(Filled, TABLE, TABLE, CUBE, FOUR)
