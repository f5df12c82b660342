"""Passes of a row each on one GPU under LRU whose misses are loaded from host memory that is a
cache above storage: what layers miss is asked of the host, all of a run of passes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.case import Case
from moesim.engine.counts import Counts
from moesim.engine.layer_work import LayerWork
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.clock.one_gpu import Stored
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.quick.activations import COUNTED_HERE
from moesim.engine.replay.quick.made import Made, Maker
from moesim.engine.replay.quick.one_row import OneRow, numbered_as_they_are, room_for
from moesim.engine.replay.quick.ones import OnesLaunches
from moesim.engine.replay.quick.program import QuickProgram, decides_alone, has_one_row
from moesim.engine.replay.quick.shared import Shared
from moesim.engine.replay.spans import IDS
from moesim.engine.residency.storage import Storage
from moesim.memory.activations import ActiveExperts
from moesim.memory.curves.recency import LANES, move_up
from moesim.memory.misses.load import Load
from moesim.runtime.compiled import njit, record, specialised, types

MOST = 16
"""Experts of a layer at most, so that a word has a bit for each."""
_FLAT, _LINE = types.int64[::1], types.uint16[::1]
_TABLE, _CUBE = types.uint16[:, ::1], types.uint16[:, :, ::1]


class Wanted(NamedTuple):
    """What is filled in: how many experts each layer ``misses`` uint16[passes, MoE layers]; and
    those that are missed, ``experts``, by each step, (pass, MoE layer), ascending, numbered over
    all layers, with their ``offsets`` int64[steps + 1].
    """

    misses: Any
    offsets: Any
    experts: Any


WANT_STEPS = types.void(
    IDS, _FLAT, _TABLE, _LINE, _CUBE, _TABLE, record(Wanted, _TABLE, _FLAT, _FLAT)
)
"""The signature of what ``want_steps_with`` makes."""


def want_steps_with(room: int) -> Callable[..., None]:
    """As ``miss_steps_with``, with what is missed."""

    def want_steps(
        ids: Any, rows: Any, home: Any, slots: Any, stacks: Any, scratch: Any, out: Any
    ) -> None:
        """As ``miss_steps``, of experts that are where they are numbered; fill in what is wanted
        ``out`` of host memory.
        """
        _, layers, top_k = ids.shape
        misses, offsets, wanted = out
        needed, ranks = scratch
        number, offsets[0], width = 0, 0, home.shape[1] if len(stacks) > 1 else 0
        for step in range(len(rows)):
            row = rows[step]
            for layer in range(layers):
                missed, own, lines = 0, slots[layer], stacks[layer if len(stacks) > 1 else 0]
                for i in range(room):
                    if i < top_k:
                        expert = needed[i] = home[layer, ids[row, layer, i]]
                        rank = ranks[i] = lines[expert // LANES, expert % LANES]
                        missed += rank >= own
                misses[step, layer], first = missed, number
                for i in range(top_k if missed > 0 else 0):
                    if ranks[i] >= own:
                        expert, place = layer * width + needed[i], number
                        while place > first and wanted[place - 1] > expert:
                            wanted[place] = wanted[place - 1]
                            place -= 1
                        wanted[place] = expert
                        number += 1
                offsets[step * layers + layer + 1] = number
                move_up(lines, needed, ranks, top_k, room)

    return want_steps


@lru_cache
def _compiled(room: int) -> Any:
    return specialised(want_steps_with, WANT_STEPS, constants=(room,), allocates=False)


def want_steps_of(top_k: int) -> Any:
    """``want_steps`` of rows that choose so many experts, compiled; kept on disk."""
    return _compiled(room_for(top_k))


@njit(types.void(_FLAT, types.boolean[::1], _TABLE, _TABLE), cache=True, _nrt=False)
def _note_reads(steps: Any, hits: Any, reads: Any, numbers: Any) -> None:
    """Fill in which of the misses of each pass and layer are ``reads``, a bit each, and their
    ``numbers``, uint16[passes, MoE layers].
    """
    passes, layers = reads.shape
    for p in range(passes):
        for layer in range(layers):
            first, last = steps[p * layers + layer], steps[p * layers + layer + 1]
            mask = number = 0
            for i in range(first, last):
                if not hits[i]:
                    mask |= 1 << (i - first)
                    number += 1
            reads[p, layer], numbers[p, layer] = mask, number


def is_stored(case: Case) -> bool:
    """Whether ``StoredProgram`` takes ``case``: all experts have their own numbers, and reads are
    alike.
    """
    host = case.host_cache
    return (
        host is not None
        and not (host.rooms or host.in_place)
        and case.variants is None
        and type(case.miss) is Load
        and case.trace.top_k <= MOST
        and not any(layer.on_host or layer.zero_copy for layer in case.model.moe_layers)
        and numbered_as_they_are(case)
        and decides_alone(case)
        and has_one_row(case)
    )


class StoredRows(OneRow):
    """Makes the runs of a case that ``is_stored``."""

    counted: tuple[str, ...] = (*COUNTED_HERE, "host_hits", "storage_reads")

    def __init__(self, shared: Shared, launches: OnesLaunches, provenance: Provenance) -> None:
        super().__init__(shared, launches, provenance)
        assert shared.case.host_cache is not None, "the case is stored"
        self._want_steps = want_steps_of(self.top_k)
        self._storage = Storage(shared.case, shared.routing, shared.case.host_cache)

    def runs_of(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """As ``Maker`` says: what is missed is held by expert."""
        return self.shared.runs_of(first, last)

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        finder, passes = self.shared.finder, last - first
        ids, rows, _, _ = finder.tokens(first, last)
        misses, reads, numbers = np.empty((3, passes, finder.layers), np.uint16)
        most, steps = misses.size * self.top_k, misses.size
        out = Wanted(misses, np.empty(steps + 1, np.int64), np.empty(most, np.int64))
        stacks = self._home, self._slots, self._stacks, self._scratch
        self._want_steps(ids, rows, *stacks, out)
        needs = ActiveExperts(out.offsets, out.experts[: out.offsets[-1]])
        (host,) = self._storage.hosts
        _note_reads(out.offsets, host.hits(needs), reads, numbers)
        self._storage.reads[:, 0] += numbers.sum(axis=0, dtype=np.int64)
        self.copies += misses.sum(axis=0, dtype=np.int64)
        executed, counts = self._counted(misses, misses - numbers, numbers)
        kernel_ns = self.launches.of_rows(passes, self.top_k)
        return Made(executed, counts, Stored(kernel_ns, misses, reads), 1)

    def settle(self, work: LayerWork) -> None:
        """As ``Maker`` says."""
        super().settle(work)
        self._storage.settle(self.provenance)


class StoredProgram(QuickProgram):
    """``QuickProgram`` of a case that ``is_stored``."""

    def _maker(self, log: DecisionLog | None) -> Maker:
        """See ``QuickProgram``."""
        del log
        return StoredRows(self.shared, OnesLaunches(self.case), self.provenance)

    def total(self) -> Counts:
        """See ``QuickProgram``: what is counted last is of the host."""
        counts = super().total()
        assert counts.marked is not None, "both are counted"
        hits, reads = np.moveaxis(counts.marked, -1, 0)
        return replace(counts, host_hits=hits, storage_reads=reads, marked=None)
