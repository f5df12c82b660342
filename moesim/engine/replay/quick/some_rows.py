"""Runs of one GPU whose passes have some rows each, under LRU: what a layer needs of them, and what
of it is missed, follows from where experts stand in a stack, be they more than its slots.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.engine.case import Case
from moesim.engine.marks import is_marked
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.quick.activations import (
    ACCESS_HITS,
    ACTIVATED,
    DECIDED,
    HITS,
    ORDER,
    Order,
)
from moesim.engine.replay.quick.launch_prices import LaunchPrices
from moesim.engine.replay.quick.made import Loading, Made
from moesim.engine.replay.quick.one_row import MORE_THAN_ANY, has_stacks, stacks_of
from moesim.engine.replay.quick.residency_plan import cut, room_for_plan
from moesim.engine.replay.quick.reuse import Reuse
from moesim.engine.replay.spans import IDS
from moesim.memory.curves.recency import LANES, move_up_some
from moesim.runtime.compiled import built_in, njit, record, types
from moesim.runtime.words import ones_of
from moesim.trace.routing import NO_EXPERT

MOST = 128
"""Rows of a pass at most: of more, neighbours are counted together."""
WORD = 64
_NONE, _ONE, _LANES = np.uint64(0), np.uint64(1), np.uint64(LANES)


class Step(NamedTuple):
    """What is at hand of a layer of a pass: the ``home`` uint16[MoE layers, experts] of experts,
    where they stand, ``lines`` and ``slots`` as of ``sweeps.Stacks``; who is chosen, a bit each, in
    ``words`` uint64[words], and by how many rows, ``chosen`` int64[experts]; in ascending order who
    is ``needed`` uint16[experts], whether it is there, ``hits`` int64[experts], and in which
    ``launch`` int64[experts].
    """

    home: Any
    lines: Any
    slots: Any
    words: Any
    chosen: Any
    needed: Any
    hits: Any
    launch: Any


_FLAT, _INT, _NARROW = types.int64[::1], types.int64, types.uint16
STEP = record(
    Step, _NARROW[:, ::1], _NARROW[:, :, ::1], _NARROW[:, ::1], types.uint64[::1], _FLAT,
    _NARROW[::1], _FLAT, _FLAT,
)  # fmt: skip


@built_in
def _choose(ids: Any, rows: Any, layer: int, at: Any) -> None:
    """Note what ``rows`` choose in a layer."""
    home, one_word, bits = at.home[layer], len(at.words) == 1, _NONE
    for row in rows:
        for k in range(ids.shape[2]):
            if ids[row, layer, k] != NO_EXPERT:
                expert = home[ids[row, layer, k]]
                at.chosen[expert] += 1
                bit = _ONE << np.uint64(expert % WORD)
                bits |= bit
                if not one_word:
                    at.words[expert // WORD] |= bit
    if one_word:  # which did not wait for itself
        at.words[0] = bits


@built_in
def _need(at: Any, layer: int, rows: Any) -> Any:
    """Fill in who is needed of those that are chosen, by how many ``rows``, and forget these; how
    many they are, how many of them are there, and how many rows that is of both.
    """
    lines, own, number, hits, together, of_hits = at.lines[layer], at.slots[layer, 0], 0, 0, 0, 0
    for word in range(len(at.words)):
        bits, at.words[word] = at.words[word], _NONE
        while bits != _NONE:
            lowest, place = bits & (~bits + _ONE), np.uint64(number)
            bits ^= lowest
            expert = np.uint64(word * WORD) + ones_of(lowest - _ONE)
            chosen, hit = at.chosen[expert], lines[expert // _LANES, expert % _LANES] < own
            at.needed[place], rows[place], at.hits[place] = expert, chosen, hit
            at.chosen[expert] = 0
            number, hits, together = number + 1, hits + hit, together + chosen
            of_hits += chosen if hit else 0
    return number, hits, together, of_hits


@built_in
def _lay_launch(together: int, rows: Any, first: int, end: int, out: Any, filled: Any) -> None:
    """A launch of the needed experts first:end, which have their ``rows``, so many ``together``."""
    out.launch_rows[filled[0]] = together
    if together > end - first:
        out.launch_rows[filled[0]] = 0
        out.ragged_at[filled[2]], out.ragged_starts[filled[2]] = filled[0], filled[3]
        filled[2] += 1
        for i in range(first, end if first > 0 else 0):  # the first one's are where they belong
            out.ragged_rows[filled[3] + i - first] = rows[i]
        filled[3] += end - first
    filled[0] += 1


@built_in
def _lay_whole(number: int, hits: int, out: Any, filled: Any) -> None:
    """The copies of needed experts that are one launch, which wait for nothing."""
    for copy in range(filled[1], filled[1] + number - hits):
        out.copy_launch[copy], out.copy_wait[copy] = 0, -1
    filled[1] += number - hits


@built_in
def _lay_parts(at: Any, number: int, free: int, how: Any, rows: Any, out: Any, filled: Any) -> int:
    """Launches and copies of a ``number`` of needed experts, for whose misses so many slots are
    ``free`` of them: others take those of the first ones, when these are done; how many launches.
    ``how``: whether copies overlap with kernels, and these are serial.
    """
    launch = first = gone = together = 0
    copies, (overlap, serial) = np.uint64(filled[1]), how
    for i in range(number):
        missed = 1 - at.hits[i]
        taken = missed & (free == 0)
        wait = (at.launch[gone] + 1) * taken - 1  # not branched on, as it would be guessed wrong
        gone, free = gone + taken, free - (missed - taken)
        if wait == launch or (serial and i > 0):
            _lay_launch(together, rows, first, i, out, filled)
            launch, first, together = launch + 1, i, 0
        at.launch[i] = launch
        out.copy_launch[copies] = launch  # of a hit it is written over
        out.copy_wait[copies] = wait if overlap else max(wait, launch - 1)
        copies += np.uint64(missed)
        together += rows[i]
    filled[1] = np.int64(copies)
    _lay_launch(together, rows, first, number, out, filled)
    return launch + 1


@built_in
def _evict_last(at: Any, number: int, rows: Any) -> int:
    """Rule (c): the first one misses, and all slots hold others that are needed, of which the last
    one goes; how many rows it has.
    """
    last = number - 1
    while at.hits[last] == 0:
        last -= 1
    at.hits[last] = 0
    return int(rows[last])


@njit(
    types.void(IDS, _FLAT, _FLAT, STEP, ORDER, types.boolean, DECIDED, types.int64[:, :, ::1],
               _FLAT),
    cache=True, _nrt=False,
)  # fmt: skip
def _lay_rows(
    ids: Any, rows: Any, offsets: Any, at: Any, order: Any, serial: bool, out: Any, executed: Any,
    filled: Any,
) -> None:  # fmt: skip
    """Find, decide and lay out passes whose ``rows`` begin at ``offsets``; ``filled`` int64[4]
    zeros, as for ``lay_out``.
    """
    for layer in order.works:
        row, own = layer if executed.shape[1] > 1 else 0, np.int64(at.slots[layer, 0])
        out.launch_base[layer], out.copy_base[layer] = filled[0], filled[1]
        out.step_launches[layer, 0] = out.step_copies[layer, 0] = 0
        for step in range(len(offsets) - 1):
            _choose(
                ids, rows[offsets[step] - offsets[0] : offsets[step + 1] - offsets[0]], layer, at
            )
            rows_of = out.ragged_rows[filled[3] :]
            number, hits, together, of_hits = _need(at, layer, rows_of)
            launches = min(number, 1)
            if number > own or (serial and number > 1):
                if hits == own and at.hits[0] == 0:
                    of_hits, hits = of_hits - _evict_last(at, number, rows_of), hits - 1
                how = order.overlap, serial
                launches = _lay_parts(at, number, own - hits, how, rows_of, out, filled)
            elif number > 0:
                _lay_launch(together, rows_of, 0, number, out, filled)
                _lay_whole(number, hits, out, filled)
            if own < MORE_THAN_ANY:
                move_up_some(at.lines[layer], at.needed, number)
            out.step_launches[layer, step + 1] = filled[0] - out.launch_base[layer]
            out.step_copies[layer, step + 1] = filled[1] - out.copy_base[layer]
            out.most_launches[0] = max(out.most_launches[0], launches)
            executed[step, row, 0] += together
            out.counts[ACTIVATED, step, row, 0] += number
            out.counts[HITS, step, row, 0] += hits
            out.counts[ACCESS_HITS, step, row, 0] += of_hits
        for i in range(len(filled)):
            out.ends[1 + order.kinds[layer], i] = filled[i]


class SomeRows(Loading):
    """Makes the runs of a case that it ``takes``."""

    def __init__(self, reuse: Reuse, launches: LaunchPrices, provenance: Provenance) -> None:
        super().__init__(reuse, launches, provenance)
        case, width = reuse.case, reuse.finder.width
        self.order = Order(launches.works, launches.kinds, case.software.overlap)
        stacks = stacks_of(reuse)
        flat = np.zeros((3, width), np.int64)
        self.step = Step(
            stacks.home, stacks.lines, stacks.slots, np.zeros(-(-width // WORD), np.uint64),
            flat[0], np.zeros(width, np.uint16), *flat[1:],
        )  # fmt: skip

    @classmethod
    def takes(cls, case: Case) -> bool:
        """Whether ``case``, which is quick and loads what it misses, is one."""
        rows = np.diff(case.schedule.offsets)
        return (
            case.gpus == 1
            and not case.placement.has_replicas
            and case.offloaded
            and has_stacks(case)
            and case.order == "id"
            and case.protect == "step"
            and not is_marked(case)
            and not case.model.has_encoder
            and 0 < int(rows.max(initial=0)) <= MOST
        )

    def made(self, first: int, last: int) -> Made:
        """As ``Maker`` says."""
        finder, passes = self.reuse.finder, last - first
        ids, rows, _, offsets = finder.tokens(first, last)
        most = np.minimum(np.diff(offsets) * ids.shape[2], finder.width).sum() * finder.layers
        shape, kinds = (finder.layers, passes, 1), self.launches.kinds
        out = room_for_plan(shape, int(most), finder.kept, kinds, len(self.counted))
        executed, filled = np.zeros((passes, finder.kept_rows, 1), np.int64), np.zeros(4, np.int64)
        serial = self.reuse.case.kernels == "serial"
        _lay_rows(ids, rows, offsets, self.step, self.order, serial, out, executed, filled)
        return self.laid(executed, cut(out))

    def end(self) -> None:
        """As ``Maker`` says."""
