"""What passes of a row each need and miss under LRU: as experts of a row differ, it follows from
where they stand in a stack at the start of their step. Compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from moesim.engine.replay.quick.activations import ACTIVATED, HITS, MARKED_FROM
from moesim.engine.replay.spans import IDS
from moesim.memory.curves.recency import LANES, move_up, move_up_apart, move_up_where, put_in_order
from moesim.memory.slots.lru_list import LRU_LIST, NO_LIST, use
from moesim.runtime.compiled import built_in, record, specialised, types
from moesim.runtime.words import ones_of
from moesim.trace.routing import NO_EXPERT

LOADED, OTHERWISE = MARKED_FROM, MARKED_FROM + 1
"""Where misses are counted that are loaded, and those that are not, where some are not."""
LOAD, HANDLE, WANT, READ = range(4)
"""What becomes of misses: all are loaded; some are, by a rule; all are, and told one by one; or all
are, from a host that is a cache under LRU. By a rule ``fewer`` experts may be chosen by some rows
than by others."""
HOST_HITS, READS = MARKED_FROM, MARKED_FROM + 1
"""Where is counted what is asked of the host."""
SPAN = 1 << 10
"""More than ranks of a GPU's experts; that of GPU g begin at g times that."""


class Stacks(NamedTuple):
    """Where experts are, ``home`` uint16[MoE layers, experts] (or, of several GPUs, [senders, MoE
    layers, experts], one for all senders where it is alike); the ``lines`` of each layer, or one of
    all, as ``move_up`` (``move_up_apart``) has them; ``slots`` uint16[MoE layers, gpus]; what a
    layer ``chooses``, and what stays of that, ``stays``, experts and ranks: uint16[2, room] of
    zeros; and room for some in ``ascending`` order. A ``pool`` of many experts, and a ``host``, may
    be lists: lines are then who is gone of the pool, or ranks where there is one slot.
    """

    home: Any
    lines: Any
    slots: Any
    chooses: Any
    stays: Any
    ascending: Any
    pool: Any = NO_LIST
    host: Any = NO_LIST


class Rule(NamedTuple):
    """By MoE layer and how many experts miss, which of them are ``loaded``, in ascending order, a
    bit each, and how many, ``loads``, int64[MoE layers, numbers]; where rows choose fewer, 1 + k
    such numbers follow for each expert less.
    """

    loaded: Any
    loads: Any


class Swept(NamedTuple):
    """What is filled in: how many experts each layer ``misses`` (as numbered by a ``Rule``), how
    many of them are ``loaded`` (where not all are), uint16[passes, MoE layers]; ``counts``
    int64[counted, passes, layers, gpus], of which activations and hits are all at first; what is
    added to ``copies`` int64[MoE layers] and to how many ``times`` so many missed, int64[MoE
    layers, numbers]; and those that are missed, ``experts``,
    by step, (pass, MoE layer), ascending, numbered over all layers, with their ``offsets``
    int64[steps + 1]; or which of them are ``read`` from storage, in this order, a bit each,
    uint16[passes, MoE layers], and what is added to how many layers ``reads`` int64[MoE layers].
    What is not asked for has no elements.
    """

    misses: Any
    loaded: Any
    counts: Any
    copies: Any
    times: Any
    offsets: Any
    experts: Any
    read: Any
    reads: Any


_FLAT, _TABLE, _CUBE = types.uint16[::1], types.uint16[:, ::1], types.uint16[:, :, ::1]
_INTS, _COUNTS = types.int64[::1], types.int64[:, :, :, ::1]
_RULE = record(Rule, *[types.int64[:, ::1]] * 2)
_SWEPT = record(
    Swept, _TABLE, _TABLE, _COUNTS, _INTS, types.int64[:, ::1], _INTS, _INTS, _TABLE, _INTS
)  # fmt: skip
_STACKS = record(Stacks, _TABLE, _CUBE, *[_TABLE] * 3, _FLAT, LRU_LIST, LRU_LIST)
_SWEEP = types.void(IDS, _INTS, _STACKS, _RULE, _SWEPT)


@built_in
def _number(rule: Any, out: Any, at: Any, top_k: int, chosen: int, missed: int) -> int:
    """Count that so many miss of an expert less than others choose, or more, in a layer of a step,
    ``at`` these; their number.
    """
    step, layer = at
    row, number = layer if out.counts.shape[2] > 1 else 0, (top_k - chosen) * (1 + top_k) + missed
    out.misses[step, layer] = number
    out.times[layer, number] += 1
    loads = rule.loads[layer, number]
    out.loaded[step, layer] = loads
    out.counts[ACTIVATED, step, row, 0] -= top_k - chosen
    out.counts[HITS, step, row, 0] -= top_k - chosen + missed
    out.counts[LOADED, step, row, 0] += loads
    if len(out.counts) > OTHERWISE:
        out.counts[OTHERWISE, step, row, 0] += missed - loads
    return int(number)


@built_in
def _stay(stacks: Any, rule: Any, room: int, layer: int, chosen: int, number: int) -> None:
    """Fill in which of a layer's ``chosen`` experts are in slots then, by the rule of the
    ``number``, and the ranks of these.
    """
    chooses, stays, own, place = stacks.chooses, stacks.stays, stacks.slots[layer, 0], 0
    loaded = rule.loaded[layer, number]
    for i in range(room):
        rank = chooses[1, i]
        hit = rank < own
        there = (hit | ((loaded >> place) & 1)) & (i < chosen)
        place += 1 - hit
        stays[0, i], stays[1, i] = there, rank * there


@built_in
def _want(stacks: Any, room: int, layer: int) -> None:
    """Let ``ascending`` begin with the experts of a layer that are missed. Nothing is branched on,
    as it would be guessed wrong: those that are there become more than any, and come last.
    """
    chooses, wanted, own = stacks.chooses, stacks.ascending, stacks.slots[layer, 0]
    numbered_from = layer * stacks.home.shape[1] if len(stacks.lines) > 1 else 0
    for i in range(room):
        expert, hits = chooses[0, i] + numbered_from, chooses[1, i] < own
        wanted[i] = NO_EXPERT if hits else expert
    put_in_order(wanted, room)


@built_in
def _read(stacks: Any, out: Any, step: int, layer: int, number: int) -> None:
    """Ask the host for a ``number`` of wanted experts, and count."""
    mask = use(stacks.host, stacks.ascending, number)
    reads = np.int64(ones_of(np.uint64(mask)))
    row = layer if out.counts.shape[2] > 1 else 0
    out.read[step, layer] = mask
    out.reads[layer] += reads
    out.counts[HOST_HITS, step, row, 0] += number - reads
    out.counts[READS, step, row, 0] += reads


@built_in
def _ask(stacks: Any, room: int, out: Any, at: Any, missed: int, becomes: int) -> None:
    """What a layer of a step, ``at`` these, misses is told, or asked of the host."""
    step, layer = at
    _want(stacks, room, layer)
    if becomes == READ:
        _read(stacks, out, step, layer, missed)
        return
    place = step * len(out.copies) + layer
    first = out.offsets[place]
    out.offsets[place + 1] = first + missed
    for i in range(room):
        out.experts[first + i] = stacks.ascending[i]


@built_in
def _choose(
    ids: Any, row: int, stacks: Any, layer: int, room: int, ascend: bool, fewer: bool
) -> Any:
    """Fill in what a row chooses, in order if it is to ``ascend``, and in place of what more it may
    choose then the first one again, or 0; how many experts, and how many of them miss.
    """
    chooses, own, top_k = stacks.chooses, stacks.slots[layer, 0], ids.shape[2]
    lines = stacks.lines[layer if len(stacks.lines) > 1 else 0]
    chosen = missed = 0
    for i in range(room):
        if i < top_k:
            which = ids[row, layer, i]
            here = not fewer or which != NO_EXPERT
            chooses[0, i] = np.int64(stacks.home[layer, which * here]) | (here - 1)
            chosen += here
        elif ascend:
            chooses[0, i] = NO_EXPERT
    if ascend:
        put_in_order(chooses[0], room)
    for i in range(room):
        if fewer or i < top_k:
            one, here = np.int64(chooses[0, i]), not fewer or i < chosen
            again = np.int64(chooses[0, 0]) * (chosen > 0) if fewer else 0
            expert = chooses[0, i] = np.uint16(again + (one - again) * here if fewer else one)
            rank = chooses[1, i] = lines[expert // LANES, expert % LANES]
            missed += here & (rank >= own)
        elif ascend:
            chooses[0, i] = chooses[0, 0]
    return chosen if fewer else top_k, missed


@built_in
def _choose_some(ids: Any, row: int, stacks: Any, layer: int, top_k: int) -> Any:
    """As ``_choose``, of a row that may choose fewer than ``top_k``: the expert behind all is in
    the place of others. It has rank 0, so that it is no miss and moves nothing, and a line before
    all others, as it comes before all experts. How many are not chosen, and how many miss.
    """
    chooses, home, own = stacks.chooses, stacks.home[layer], stacks.slots[layer, 0]
    lines = stacks.lines[layer if len(stacks.lines) > 1 else 0]
    fewer = missed = 0
    for i in range(top_k):
        expert = chooses[0, i] = home[min(np.int64(ids[row, layer, i]), len(home) - 1)]
        rank = chooses[1, i] = lines[expert // LANES, expert % LANES]
        fewer += expert < LANES
        missed += rank >= own
    return fewer, missed


@built_in
def _number_loaded(out: Any, step: int, top_k: int) -> None:
    """Number what layers of a step miss, which is all loaded, by how many fewer experts they
    choose, which is noted in that place; and count.
    """
    apart, fewer, missed = out.counts.shape[2] > 1, np.int64(0), np.int64(0)
    for layer in range(len(out.times)):
        less, misses = np.int64(out.misses[step, layer]), np.int64(out.loaded[step, layer])
        number = out.misses[step, layer] = less * (1 + top_k) + misses
        out.times[layer, number] += 1
        fewer, missed = fewer + less, missed + misses
        if apart:
            out.counts[ACTIVATED, step, layer, 0] -= less
            out.counts[HITS, step, layer, 0] -= less + misses
            out.counts[LOADED, step, layer, 0] += misses
    if not apart:
        out.counts[ACTIVATED, step, 0, 0] -= fewer
        out.counts[HITS, step, 0, 0] -= fewer + missed
        out.counts[LOADED, step, 0, 0] += missed


@built_in
def _use_where(stacks: Any, lines: Any, room: int, listed: bool) -> None:
    """Let those chosen experts that stay be used last; ``listed``: of a pool that is a list."""
    chosen, (stays, ranks), number = stacks.chooses[0], (stacks.stays[0], stacks.stays[1]), 0
    if not listed:
        move_up_where(lines, chosen, ranks, stays, room)
        return
    for i in range(room):
        stacks.ascending[number] = chosen[i]
        number += stays[i]
    use(stacks.pool, stacks.ascending, number)


def sweep_with(room: int, becomes: int, listed: bool, fewer: bool) -> Callable[..., None]:
    """What sweeps passes of one GPU whose rows choose at most ``room`` experts, a multiple of
    TOGETHER, some ``fewer`` than others, and of whose misses ``becomes`` so; ``listed``: of one
    pool, as a list. As all are known when that is compiled, loops over experts are none.
    """
    ascend = becomes == HANDLE or listed

    def sweep(ids: Any, rows: Any, stacks: Any, rule: Any, out: Any) -> None:
        """What is ``Swept`` by passes that have one of the ``rows`` of ``ids`` each."""
        _, layers, top_k = ids.shape
        apart = out.counts.shape[2] > 1
        for step in range(len(rows)):
            row = rows[step]
            for layer in range(layers):
                lines = stacks.lines[layer if len(stacks.lines) > 1 else 0]
                at, chosen = (step, layer), stacks.chooses[0]
                number, missed = _choose(ids, row, stacks, layer, room, ascend, fewer)
                if becomes == HANDLE:
                    place = _number(rule, out, at, top_k, number, missed)
                    if number > 0:
                        _stay(stacks, rule, room, layer, number, place)
                        _use_where(stacks, lines, room, listed)
                    continue
                out.misses[step, layer] = missed
                out.counts[HITS, step, layer if apart else 0, 0] -= missed
                out.copies[layer] += missed
                if listed:
                    use(stacks.pool, chosen, top_k)
                else:
                    move_up(lines, chosen, stacks.chooses[1], stacks.stays[1], top_k, room, 0)
                if becomes in (WANT, READ):
                    _ask(stacks, room, out, at, missed, becomes)

    return sweep


def sweep_fewer_with(top_k: int, room: int) -> Callable[..., None]:
    """As ``sweep_with``, of rows that choose ``top_k`` experts or fewer, whose misses are loaded,
    and numbered as by a ``Rule``. Stacks have the expert behind all: see ``_choose_some``.
    """

    def sweep_fewer(ids: Any, rows: Any, stacks: Any, _rule: Any, out: Any) -> None:
        """What is ``Swept`` by passes that have one of the ``rows`` of ``ids`` each."""
        chosen, ranks, moved = stacks.chooses[0], stacks.chooses[1], stacks.stays[1]
        for step in range(len(rows)):
            for layer in range(ids.shape[1]):
                lines = stacks.lines[layer if len(stacks.lines) > 1 else 0]
                fewer, missed = _choose_some(ids, rows[step], stacks, layer, top_k)
                move_up(lines, chosen, ranks, moved, top_k, room, 1)
                lines[0, 0] = 0
                out.misses[step, layer], out.loaded[step, layer] = fewer, missed
            _number_loaded(out, step, top_k)

    return sweep_fewer


@lru_cache
def sweep_fewer_of(top_k: int, room: int) -> Any:
    """``sweep_fewer`` of such rows, compiled; kept on disk."""
    return specialised(sweep_fewer_with, _SWEEP, constants=(top_k, room), allocates=False)


@lru_cache
def sweep_of(room: int, becomes: int, *, listed: bool, fewer: bool) -> Any:
    """``sweep`` where there is so much room, compiled; kept on disk."""
    constants = room, becomes, listed, fewer
    return specialised(sweep_with, _SWEEP, constants=constants, allocates=False)


class Spread(NamedTuple):
    """What is filled in: how many experts are ``active`` in each layer, and ``misses``, of each
    GPU, uint16[passes, MoE layers, gpus], ``counts`` int64[counted, passes, layers, gpus], zeros at
    first, and the most rows that a GPU sends or gets, ``busiest`` int64[MoE layers, passes]; what
    is added to ``copies`` int64[MoE layers] and to how many ``times`` a launch has so many experts,
    int64[MoE layers, 1 + k].
    """

    active: Any
    misses: Any
    counts: Any
    busiest: Any
    copies: Any
    times: Any


_SPREAD_STACKS = record(Stacks, _CUBE, _CUBE, *[_TABLE] * 3, _FLAT, LRU_LIST, LRU_LIST)
_SPREAD_OUT = record(Spread, _CUBE, _CUBE, _COUNTS, types.int64[:, ::1], _INTS, types.int64[:, ::1])
_SPREAD = types.void(IDS, _INTS, _INTS, _SPREAD_STACKS, _SPREAD_OUT)


def spread_with(room: int) -> Callable[..., None]:
    """As ``sweep_with``, of several GPUs, whose misses are loaded."""

    def spread(ids: Any, rows: Any, senders: Any, stacks: Any, out: Any) -> None:
        """What is ``Spread`` by passes that have one of the ``rows`` of ``ids`` each, on a GPU of
        ``senders``.
        """
        _, layers, top_k = ids.shape
        needed, ranks, bases = stacks.chooses[0], stacks.chooses[1], stacks.stays[0]
        apart = out.counts.shape[2] > 1
        for step in range(len(rows)):
            row, home = rows[step], stacks.home[senders[step] if len(stacks.home) > 1 else 0]
            for layer in range(layers):
                lines, at = stacks.lines[layer], layer if apart else 0
                for i in range(room):
                    if i < top_k:
                        expert = needed[i] = home[layer, ids[row, layer, i]]
                        rank = ranks[i] = lines[expert // LANES, expert % LANES]
                        gpu = rank // SPAN
                        bases[i] = gpu * SPAN
                        hits = rank % SPAN < stacks.slots[layer, gpu]
                        out.active[step, layer, gpu] += 1
                        out.misses[step, layer, gpu] += 1 - hits
                        out.copies[layer] += 1 - hits
                        out.counts[ACTIVATED, step, at, gpu] += 1
                        out.counts[HITS, step, at, gpu] += hits
                active = out.active[step, layer]
                out.busiest[layer, step] = top_k - active[senders[step]]
                for number in active:
                    out.times[layer, number] += 1
                move_up_apart(lines, needed, ranks, bases, top_k)

    return spread


@lru_cache
def spread_of(room: int) -> Any:
    """``spread`` where there is so much room, compiled; kept on disk."""
    return specialised(spread_with, _SPREAD, constants=(room,), allocates=False)
