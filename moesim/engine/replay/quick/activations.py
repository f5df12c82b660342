"""Activations, launches and copies of a run of passes at once, compiled, where every miss is loaded
and nothing is prefetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.found import Needed
from moesim.engine.replay.quick.kept import KEPT
from moesim.memory.activations import Activations
from moesim.memory.decisions import ACTIVATIONS, RULES, Demand, built_in, decide_with
from moesim.memory.forms import Form
from moesim.memory.misses.load import Load
from moesim.memory.policy import CachePolicy
from moesim.memory.policy_reads import Reads
from moesim.memory.residency import specialised_by
from moesim.runtime.compiled import inlined, njit, record, types

ACTIVATED, HITS, ACCESS_HITS = range(3)


class Known(NamedTuple):
    """What is known beforehand of the active experts of a run of passes, with a row for each (MoE
    layer, GPU), empty where it is not: next uses, gate weights, and ``distances`` uint16, where
    each stands in the stack at the start of its step. It is then resident if that is less than the
    slots, which hold what any step needs, and there is no cache.
    """

    next_use: Any
    weights: Any
    distances: Any


class Decided(NamedTuple):
    """The decisions of a run of passes. Of each (MoE layer, GPU), where its launches and copies
    begin and how many there are up to each pass; of each launch the rows where all experts have
    one, else 0: it is odd then, and the rows of the odd ones are kept; of each copy its launch and
    the launch for which it waits, or -1. ``ends`` int64[1 + kinds, 4]: where the launches, copies,
    odd launches and their rows of a kind of layer end; ``counts`` int64[3, passes, layers, gpus];
    ``most_launches`` int64[1] of a step.
    """

    step_launches: Any
    launch_base: Any
    launch_ones: Any
    step_copies: Any
    copy_base: Any
    copy_launch: Any
    copy_wait: Any
    odd_at: Any
    odd_starts: Any
    odd_rows: Any
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
KNOWN = record(Known, _TABLE, _TABLE, types.uint16[:, ::1])
DECIDED = record(
    Decided, _TABLE, _FLAT, _FLAT, _TABLE, *[_FLAT] * 6, _TABLE, types.int64[:, :, :, ::1], _FLAT
)
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


class Filled(NamedTuple):
    """So many launches and copies are laid out, odd launches and rows of these; ``most`` launches
    of a step.
    """

    launches: Any
    copies: Any
    odd: Any
    odd_rows: Any
    most: Any


class Found(NamedTuple):
    """The active experts of a work, as in ``Needed``; the ``layer`` and ``gpu`` under which it is
    counted; whether they are not activated ``in_order``, so that rows go by expert: then ``own``
    int64[experts] is room for these.
    """

    offsets: Any
    experts: Any
    rows: Any
    layer: Any
    gpu: Any
    in_order: Any
    own: Any


FILLED = record(Filled, *[_INT] * 5)
FOUND = record(Found, _FLAT, _FLAT, _FLAT, _INT, _INT, types.boolean, _FLAT)


@built_in
def _rows_of(found: Any, expert: Any, i: int) -> Any:
    """Rows of activation ``i``."""
    return found.rows[i] if found.in_order else found.own[expert[i]]


@built_in
def _lay_launch(
    overlap: bool, found: Any, first: int, end: int, activations: Any, filled: Any, out: Any
) -> Any:
    """Lay out the activations ``first:end``, which are a launch; returns its hits and those of
    accesses, too.
    """
    expert, launch, copies = activations.expert, activations.launch[first], filled.copies
    together = hits = access_hits = 0
    for i in range(first, end):
        number, hit, wait = _rows_of(found, expert, i), activations.hit[i], activations.wait[i]
        together += number
        hits += hit
        access_hits += number if hit else 0
        out.copy_launch[copies] = launch  # of a hit it is written over
        out.copy_wait[copies] = wait if overlap else max(wait, launch - 1)
        copies += 1 - hit
    launches, _, odd, odd_rows, most = filled
    out.launch_ones[launches] = together
    if together != end - first:
        out.launch_ones[launches] = 0
        out.odd_at[odd], out.odd_starts[odd] = launches, odd_rows
        odd += 1
        for i in range(first, end):
            out.odd_rows[odd_rows] = _rows_of(found, expert, i)
            odd_rows += 1
    return Filled(launches + 1, copies, odd, odd_rows, max(most, launch + 1)), hits, access_hits


@built_in
def _lay_step(overlap: bool, found: Any, step: int, activations: Any, filled: Any, out: Any) -> Any:
    """Launches, copies and counts of a step's activations."""
    low, high, launch = found.offsets[step], found.offsets[step + 1], activations.launch
    hits = access_hits = 0
    if not found.in_order:
        for i in range(low, high):
            found.own[found.experts[i]] = found.rows[i]
    first = low
    while first < high:
        end = high
        if launch[high - 1] != launch[first]:
            end = first + 1
            while launch[end] == launch[first]:
                end += 1
        filled, hit, access_hit = _lay_launch(overlap, found, first, end, activations, filled, out)
        hits, access_hits, first = hits + hit, access_hits + access_hit, end
    if high > low:
        layer, gpu = found.layer, found.gpu
        out.counts[ACTIVATED, step, layer, gpu] += high - low
        out.counts[HITS, step, layer, gpu] += hits
        out.counts[ACCESS_HITS, step, layer, gpu] += access_hits
    return filled


@njit(FILLED(types.boolean, FOUND, ACTIVATIONS, FILLED, _FLAT, _FLAT, DECIDED), cache=True)
def lay_out(
    overlap: bool, found: Any, activations: Any, filled: Any, step_launches: Any, step_copies: Any,
    out: Any,
) -> Any:  # fmt: skip
    """Launches, copies and counts of the activations of a work, behind what is ``filled``; of each
    step where its launches and copies end, counted from there.
    """
    before = filled
    step_launches[0] = step_copies[0] = 0
    for step in range(len(found.offsets) - 1):
        filled = _lay_step(overlap, found, step, activations, filled, out)
        step_launches[step + 1] = filled.launches - before.launches
        step_copies[step + 1] = filled.copies - before.copies
    return filled


DECIDE_ALL = types.void(RULES, ORDER, KEPT, _INT, NEEDED, KNOWN, DECIDED)
"""The signature of what ``decide_all_with`` makes."""


def decide_all_with(
    key: Any, before_activation: Any, after_activation: Any, place: Any, forms: Sequence[Form],
    reads: Reads,
) -> Callable[..., None]:  # fmt: skip
    """What decides all activations of a run of passes, with ``decisions.decide_with`` built in:
    to be given a compiled function takes long.
    """
    decide = inlined(decide_with(key, before_activation, after_activation, place, forms, reads))

    def decide_all(
        rules: Any, order: Any, kept: Any, first: int, needed: Any, known: Any, out: Any
    ) -> None:
        """Every work of the passes from ``first`` on, by stack distances where ``kept`` has no
        state.
        """
        gpus, room = len(kept.local), needed.experts.shape[1]
        filled, own = Filled(0, 0, 0, 0, 0), np.empty(kept.resident.shape[1], np.int64)
        nobody, no_prices = np.empty(0, np.int64), np.empty((3, 0), np.int64)
        activations = Activations(
            np.empty(room, np.int64), np.empty(room, np.bool_), np.empty(room, np.int64),
            np.empty(room, np.int64), nobody, nobody,
        )  # fmt: skip
        alike = not rules.serial and known.distances.shape[1] == 0
        there = room if alike and len(kept.state) == 0 else 0
        all_hit, one_launch, no_wait = (
            np.ones(there, np.bool_),
            np.zeros(there, np.int64),
            np.full(there, -1, np.int64),
        )
        for work in order.works:
            layer, gpu = work // gpus, work % gpus
            offsets, experts = needed.offsets[work], needed.experts[work]
            row = layer if out.counts.shape[2] > 1 else 0
            found = Found(
                offsets, experts, needed.rows[work], row, gpu, not rules.resident_first, own
            )
            out.launch_base[work], out.copy_base[work] = filled.launches, filled.copies
            if kept.state_at[work + 1] > kept.state_at[work]:
                demand = Demand(
                    offsets, experts, known.next_use[work], known.weights[work], no_prices,
                    kept.draws[kept.draws_at[work] : kept.draws_at[work + 1]],
                )  # fmt: skip
                begin, number = kept.state_at[work], kept.local[gpu]
                state = kept.state[begin : kept.state_at[work + 1]].reshape((-1, number))
                kept.now[work] = decide(
                    rules, kept.slots[work], demand, kept.resident[work][:number], state, first,
                    kept.now[work], activations,
                )  # fmt: skip
            elif there == 0:
                distances = known.distances[work]
                look_up(rules, offsets, experts, distances, kept.slots[work], activations)
            else:
                activations = Activations(experts, all_hit, one_launch, no_wait, nobody, nobody)
            filled = lay_out(
                order.overlap, found, activations, filled, out.step_launches[work],
                out.step_copies[work], out,
            )  # fmt: skip
            for i in range(4):
                out.ends[1 + order.kinds[layer], i] = filled[i]
        out.most_launches[0] = filled.most

    return decide_all


@lru_cache
def decide_all_of(policy: type[CachePolicy]) -> Any:
    """``decide_all`` of ``policy`` where every miss is loaded, compiled; kept on disk."""
    return specialised_by(decide_all_with, DECIDE_ALL, policy, Load)
