"""Activations, launches and copies of a run of passes at once, compiled, where every miss is loaded
and nothing is prefetched.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.marks import count_marks
from moesim.engine.replay.activation_index import Needed
from moesim.engine.replay.callback import FirstClass
from moesim.engine.replay.quick.kept import KEPT
from moesim.memory.activations import Activations
from moesim.memory.misses.load import Load
from moesim.memory.policy import CachePolicy
from moesim.memory.policy_reads import reads_of
from moesim.memory.slots.by_bytes import Victims
from moesim.memory.slots.decisions import ACTIVATIONS, DECIDE_IN, RULES, Demand, is_own, new_cells
from moesim.memory.slots.residency import decide_in_of
from moesim.memory.slots.split import OFFERED
from moesim.runtime.compiled import code_of, njit, record, types

COUNTED_HERE = ("activations", "hits", "access_hits")
ACTIVATED, HITS, ACCESS_HITS = range(len(COUNTED_HERE))
MARKED_FROM = len(COUNTED_HERE)
"""Where counts by mark follow."""


class Known(NamedTuple):
    """What is known beforehand of the active experts of a run of passes, with a row for each (MoE
    layer, GPU), empty where it is not: next uses, gate weights, and ``distances`` uint16, where
    each stands in the stack at the start of its step. It is then resident if that is less than the
    slots, which hold what any step needs, and there is no cache. ``marks`` int8: whose tokens need
    it.
    """

    next_use: Any
    weights: Any
    distances: Any
    marks: Any


class ResidencyPlan(NamedTuple):
    """The decisions of a run of passes. Of each (MoE layer, GPU), where its launches and copies
    begin and how many there are up to each pass; of each launch the rows where all experts have
    one, else 0: it is ragged then, and the rows of the ragged ones are kept; of each copy its
    launch and the launch for which it waits, or -1. ``ends`` int64[1 + kinds, 4]: where the
    launches, copies, ragged launches and their rows of a kind of layer end; ``counts``
    int64[COUNTED_HERE, and MARKED where that is counted, passes, layers, gpus]; ``most_launches``
    int64[1] of a step.
    """

    step_launches: Any
    launch_base: Any
    launch_rows: Any
    step_copies: Any
    copy_base: Any
    copy_launch: Any
    copy_wait: Any
    ragged_at: Any
    ragged_starts: Any
    ragged_rows: Any
    ends: Any
    counts: Any
    most_launches: Any


class Order(NamedTuple):
    """In which order all is decided: ``works`` int64[MoE layers x gpus], equal ``kinds`` int64[MoE
    layers] together; whether copies ``overlap`` with kernels.
    """

    works: Any
    kinds: Any
    overlap: Any


_FLAT, _MASK, _TABLE = types.int64[::1], types.boolean[::1], types.int64[:, ::1]
_INT = types.int64
NEEDED = record(Needed, _TABLE, _TABLE, _TABLE, types.int64[:, :, ::1])
KNOWN = record(Known, _TABLE, _TABLE, types.uint16[:, ::1], types.int8[:, ::1])
DECIDED = record(
    ResidencyPlan, _TABLE, _FLAT, _FLAT, _TABLE, *[_FLAT] * 6, _TABLE, types.int64[:, :, :, ::1],
    _FLAT,
)  # fmt: skip
ORDER = record(Order, _FLAT, _FLAT, types.boolean)


@njit(types.void(RULES, _FLAT, _FLAT, types.uint16[::1], _INT, ACTIVATIONS), cache=True)
def look_up(rules: Any, offsets: Any, experts: Any, distances: Any, slots: int, out: Any) -> None:
    """The activations where no victim matters: a hit where the distance is less than ``slots``, or
    everywhere, without ``distances``.
    """
    known = len(distances) > 0
    for step in range(len(offsets) - 1):
        low, high = offsets[step], offsets[step + 1]
        rest, launch = low, 0
        for turn in range(2 if known and rules.resident_first else 1):
            begin = rest
            for i in range(low, high):
                hit = not known or distances[i] < slots
                if not (known and rules.resident_first) or hit == (turn == 0):
                    out.expert[rest], out.hit[rest], out.wait[rest] = experts[i], hit, -1
                    launch += rest > low and (rules.serial or rest == begin)
                    out.launch[rest] = launch
                    rest += 1


@njit(
    types.void(NEEDED, types.uint16[::1], _INT, DECIDED, _INT, _INT, _INT, _FLAT),
    cache=True, _nrt=False,
)  # fmt: skip
def lay_whole(
    needed: Any, distances: Any, slots: int, out: Any, work: int, layer: int, gpu: int, filled: Any
) -> None:
    """As ``lay_out`` of what ``look_up`` finds, where each step is one launch, whose copies wait
    for nothing: nothing is kept of each activation.
    """
    offsets, rows, known = needed.offsets[work], needed.rows[work], len(distances) > 0
    launches, first_copy, ragged, ragged_members = filled
    first_launch, copies = launches, first_copy
    out.step_launches[work, 0] = out.step_copies[work, 0] = 0
    for step in range(len(offsets) - 1):
        low, high = offsets[step], offsets[step + 1]
        hits = access_hits = together = 0
        for i in range(low, high):
            hit = not known or distances[i] < slots
            together += rows[i]
            hits += hit
            access_hits += rows[i] if hit else 0
        if high > low:
            out.launch_rows[launches] = together if together == high - low else 0
            if together > high - low:
                out.ragged_at[ragged], out.ragged_starts[ragged] = launches, ragged_members
                ragged += 1
                for i in range(low, high):
                    out.ragged_rows[ragged_members] = rows[i]
                    ragged_members += 1
            launches += 1
        copies += high - low - hits
        out.step_launches[work, step + 1] = launches - first_launch
        out.step_copies[work, step + 1] = copies - first_copy
        out.counts[ACTIVATED, step, layer, gpu] += high - low
        out.counts[HITS, step, layer, gpu] += hits
        out.counts[ACCESS_HITS, step, layer, gpu] += access_hits
    for copy in range(first_copy, copies):
        out.copy_launch[copy], out.copy_wait[copy] = 0, -1
    filled[0], filled[1], filled[2], filled[3] = launches, copies, ragged, ragged_members
    out.most_launches[0] = max(out.most_launches[0], launches > first_launch)


@njit(
    types.void(
        RULES, types.boolean, NEEDED, ACTIVATIONS, _FLAT, DECIDED, _INT, _INT, _INT, _FLAT
    ),
    cache=True,
)  # fmt: skip
def lay_out(
    rules: Any, overlap: bool, needed: Any, activations: Any, own: Any, out: Any,
    work: int, layer: int, gpu: int, filled: Any,
) -> None:  # fmt: skip
    """Launches, copies and counts of the activations of a work, which is ``layer`` on ``gpu``.

    ``filled`` int64[4]: launches and copies so far, ragged launches and their rows; ``own``
    int64[experts] is room.
    """
    offsets, active, rows = needed.offsets[work], needed.experts[work], needed.rows[work]
    expert, hit, launch, wait, _, _ = activations
    all_launches, _, launch_rows, all_copies, _ = out[:5]
    copy_launch, copy_wait, ragged_at, ragged_starts, ragged_rows = out[5:10]
    step_launches, step_copies = all_launches[work], all_copies[work]
    launches, copies, ragged, ragged_members = filled
    launches_before, copies_before, most = launches, copies, out.most_launches[0]
    counts, resident_first = out.counts[:, :, layer, gpu], rules.resident_first
    step_launches[0] = step_copies[0] = 0
    for step in range(len(offsets) - 1):
        low, high = offsets[step], offsets[step + 1]
        hits = access_hits = 0
        if resident_first:
            for i in range(low, high):
                own[active[i]] = rows[i]
        first = low
        while first < high:
            this, together, end = launch[first], 0, high
            if launch[high - 1] != this:
                end = first + 1
                while launch[end] == this:
                    end += 1
            for i in range(first, end):
                number, there = own[expert[i]] if resident_first else rows[i], hit[i]
                ragged_rows[ragged_members + i - first] = number  # written over if all have one
                together += number
                hits += there
                access_hits += number if there else 0
                copy_launch[copies] = this  # of a hit it is written over
                copy_wait[copies] = wait[i] if overlap else max(wait[i], this - 1)
                copies += 1 - there
            launch_rows[launches] = together
            if together != end - first:
                launch_rows[launches] = 0
                ragged_at[ragged], ragged_starts[ragged] = launches, ragged_members
                ragged, ragged_members = ragged + 1, ragged_members + end - first
            launches += 1
            most, first = max(most, this + 1), end
        step_launches[step + 1] = launches - launches_before
        step_copies[step + 1] = copies - copies_before
        if high > low:
            counts[ACTIVATED, step] += high - low
            counts[HITS, step] += hits
            counts[ACCESS_HITS, step] += access_hits
    filled[0], filled[1], filled[2], filled[3] = launches, copies, ragged, ragged_members
    out.most_launches[0] = most


@njit(
    types.void(
        types.FunctionType(DECIDE_IN), types.boolean, RULES, _INT, ORDER, KEPT, NEEDED, KNOWN,
        DECIDED,
    ),
    cache=True,
)  # fmt: skip
def _decide_all(
    decide: Any, own: bool, rules: Any, first: int, order: Any, kept: Any, needed: Any, known: Any,
    out: Any,
) -> None:  # fmt: skip
    """Every work of the passes from ``first`` on, by ``decide``, a policy's ``decide_in``, or by
    stack distances where ``kept`` has no state; ``own`` as in ``decisions.is_own``.

    A work is decided in one call, so that what is around it need not be compiled for each policy.
    """
    gpus, room = len(kept.local), needed.experts.shape[1]
    filled, of_expert = np.zeros(4, np.int64), np.empty(kept.resident.shape[1], np.int64)
    nobody, no_prices = np.empty(0, np.int64), np.empty((OFFERED, 0), np.int64)
    marks = known.marks.shape[1] > 0
    activations = Activations(
        np.empty(room, np.int64), np.empty(room, np.bool_), np.empty(room, np.int64),
        np.empty(room, np.int64), np.empty(room if marks else 0, np.int64), nobody,
    )  # fmt: skip
    told = known.distances.shape[1] > 0
    whole = not (rules.serial or marks or (rules.resident_first and told))
    for work in order.works:
        layer, gpu = work // gpus, work % gpus
        number, offsets, experts = kept.local[gpu], needed.offsets[work], needed.experts[work]
        out.launch_base[work], out.copy_base[work] = filled[0], filled[1]
        begin, end, slots = kept.state_at[work], kept.state_at[work + 1], kept.slots[work]
        row = layer if out.counts.shape[2] > 1 else 0
        if end > begin:
            resident = kept.resident[work][:number]
            demand = Demand(
                offsets, experts, known.next_use[work], known.weights[work], no_prices,
                kept.draws[kept.draws_at[work] : kept.draws_at[work + 1]], no_prices,
            )  # fmt: skip
            kept.now[work] = decide(
                rules, slots, demand, resident, kept.state[begin:end].reshape((-1, number)),
                (first, kept.now[work]), activations,
                new_cells(
                    rules.resident_first, max(resident.sum(), slots), len(experts), number, own,
                    False,
                ),
            )  # fmt: skip
        else:
            distances = known.distances[work]
            if whole:
                lay_whole(needed, distances, slots, out, work, row, gpu, filled)
            else:
                look_up(rules, offsets, experts, distances, slots, activations)
                activations.victim[:] = -1
        if end > begin or not whole:
            lay_out(
                rules, order.overlap, needed, activations, of_expert, out, work, row, gpu, filled
            )
        if marks:
            count_marks(
                offsets, experts, known.marks[work], activations, Victims(nobody, nobody),
                np.empty(0, np.bool_), kept.evicted_by[work], of_expert,
                out.counts[MARKED_FROM:, :, row, gpu],
            )  # fmt: skip
        for i in range(len(filled)):  # numba's check of arrays' shapes compiles for seconds
            out.ends[1 + order.kinds[layer], i] = filled[i]


@lru_cache
def decide_all_of(policy: type[CachePolicy]) -> Any:
    """What decides all activations of a run of passes by ``policy``, where every miss is loaded:
    by the same code as one layer's, kept on disk. It takes the rest of what ``_decide_all`` does.
    """
    decide = FirstClass(decide_in_of(policy, Load), DECIDE_IN)
    return partial(code_of(_decide_all), decide, is_own(reads_of(policy)))
