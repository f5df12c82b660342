"""What passes of a row each need and miss under LRU: as experts of a row differ, it follows from
where they stand in a stack at the start of their step. Compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from moesim.engine.replay.quick.activations import ACTIVATED, HITS, MARKED_FROM
from moesim.engine.replay.spans import IDS
from moesim.memory.curves.recency import LANES, move_up, move_up_apart
from moesim.runtime.compiled import built_in, record, specialised, types

LOADED, OTHERWISE = MARKED_FROM, MARKED_FROM + 1
"""Where misses are counted that are loaded, and those that are not, where some are not."""
LOAD, HANDLE, WANT = range(3)
"""What becomes of misses: all are loaded; some are, by a rule; or all are, and told one by one."""
SPAN = 1 << 10
"""More than ranks of a GPU's experts; that of GPU g begin at g times that."""


class Stacks(NamedTuple):
    """Where experts are, ``home`` uint16[MoE layers, experts] (or, of several GPUs, [senders, MoE
    layers, experts], one for all senders where it is alike); the ``lines`` of each layer, or one of
    all, as ``move_up`` (``move_up_apart``) has them; ``slots`` uint16[MoE layers, gpus]; what a
    layer ``chooses``, and what stays of that, ``stays``, experts and ranks: uint16[2, room] of
    zeros.
    """

    home: Any
    lines: Any
    slots: Any
    chooses: Any
    stays: Any


class Rule(NamedTuple):
    """By MoE layer and how many experts miss, which of them are ``loaded``, in ascending order,
    bool[MoE layers, 1 + k, k], and how many, ``loads`` int64[MoE layers, 1 + k].
    """

    loaded: Any
    loads: Any


class Swept(NamedTuple):
    """What is filled in: how many experts each layer ``misses``, how many of them are ``loaded``
    (where not all are), uint16[passes, MoE layers]; ``counts`` int64[counted, passes, layers,
    gpus], of which hits are all at first; what is added to ``copies`` int64[MoE layers] and to how
    many ``times`` so many missed, int64[MoE layers, 1 + k]; and those that are missed, ``experts``,
    by step, (pass, MoE layer), ascending, numbered over all layers, with their ``offsets``
    int64[steps + 1]. What is not asked for has no elements.
    """

    misses: Any
    loaded: Any
    counts: Any
    copies: Any
    times: Any
    offsets: Any
    experts: Any


_FLAT, _TABLE, _CUBE = types.uint16[::1], types.uint16[:, ::1], types.uint16[:, :, ::1]
_INTS, _COUNTS = types.int64[::1], types.int64[:, :, :, ::1]
_RULE = record(Rule, types.boolean[:, :, ::1], types.int64[:, ::1])
_SWEPT = record(Swept, _TABLE, _TABLE, _COUNTS, _INTS, types.int64[:, ::1], _INTS, _INTS)
_STACKS = record(Stacks, _TABLE, _CUBE, *[_TABLE] * 3)
_SWEEP = types.void(IDS, _INTS, _STACKS, _RULE, _SWEPT)


@built_in
def _stay(stacks: Any, rule: Any, out: Any, step: int, layer: int, missed: int) -> int:
    """Tell what becomes of so many misses, and what of a layer's experts is in slots then; how many
    that are.
    """
    chooses, stays, top_k = stacks.chooses, stacks.stays, rule.loaded.shape[2]
    own, row = stacks.slots[layer, 0], layer if out.counts.shape[2] > 1 else 0
    loads, number = rule.loads[layer, missed], 0
    out.loaded[step, layer] = loads
    out.times[layer, missed] += 1
    out.counts[LOADED, step, row, 0] += loads
    out.counts[OTHERWISE, step, row, 0] += missed - loads
    for i in range(top_k):
        expert, rank = chooses[0, i], chooses[1, i]
        there, place = rank < own or loads == missed, 0
        if not there and loads > 0:
            for j in range(top_k):
                place += chooses[1, j] >= own and chooses[0, j] < expert
            there = rule.loaded[layer, missed, place]
        stays[0, number], stays[1, number] = expert, rank
        number += there
    for i in range(number, stays.shape[1]):
        stays[0, i] = stays[1, i] = 0
    return number


@built_in
def _want(stacks: Any, top_k: int, out: Any, step: int, layer: int, missed: int) -> None:
    """Tell which experts of a layer are missed."""
    chooses, own, wanted = stacks.chooses, stacks.slots[layer, 0], out.experts
    at, width = step * len(out.copies) + layer, stacks.home.shape[1]
    number = first = out.offsets[at]
    for i in range(top_k if missed > 0 else 0):
        if chooses[1, i] >= own:
            expert, place = chooses[0, i], number
            if len(stacks.lines) > 1:
                expert += layer * width
            while place > first and wanted[place - 1] > expert:
                wanted[place] = wanted[place - 1]
                place -= 1
            wanted[place] = expert
            number += 1
    out.offsets[at + 1] = number


def sweep_with(room: int, becomes: int) -> Callable[..., None]:
    """What sweeps passes of one GPU whose rows choose at most ``room`` experts, a multiple of
    TOGETHER, and of whose misses ``becomes`` so: as both are known when that is compiled, loops
    over experts are none.
    """

    def sweep(ids: Any, rows: Any, stacks: Any, rule: Any, out: Any) -> None:
        """What is ``Swept`` by passes that have one of the ``rows`` of ``ids`` each."""
        _, layers, top_k = ids.shape
        chooses, apart = stacks.chooses, out.counts.shape[2] > 1
        for step in range(len(rows)):
            row = rows[step]
            for layer in range(layers):
                missed, own = 0, stacks.slots[layer, 0]
                lines = stacks.lines[layer if len(stacks.lines) > 1 else 0]
                for i in range(room):
                    if i < top_k:
                        expert = chooses[0, i] = stacks.home[layer, ids[row, layer, i]]
                        rank = chooses[1, i] = lines[expert // LANES, expert % LANES]
                        missed += rank >= own
                out.misses[step, layer] = missed
                out.counts[HITS, step, layer if apart else 0, 0] -= missed
                if becomes == HANDLE:
                    number = _stay(stacks, rule, out, step, layer, missed)
                    move_up(lines, stacks.stays[0], stacks.stays[1], number, room)
                    continue
                out.copies[layer] += missed
                if becomes == WANT:
                    _want(stacks, top_k, out, step, layer, missed)
                move_up(lines, chooses[0], chooses[1], top_k, room)

    return sweep


@lru_cache
def sweep_of(room: int, becomes: int) -> Any:
    """``sweep`` where there is so much room, compiled; kept on disk."""
    return specialised(sweep_with, _SWEEP, constants=(room, becomes), allocates=False)


class Spread(NamedTuple):
    """What is filled in: how many experts each layer ``needs`` and ``misses`` of each GPU,
    uint16[passes, MoE layers, gpus], ``counts`` int64[counted, passes, layers, gpus], zeros at
    first, and the most rows that a GPU sends or gets, ``busiest`` int64[MoE layers, passes]; what
    is added to ``copies`` int64[MoE layers] and to how many ``times`` a launch has so many experts,
    int64[MoE layers, 1 + k].
    """

    needs: Any
    misses: Any
    counts: Any
    busiest: Any
    copies: Any
    times: Any


_SPREAD_STACKS = record(Stacks, _CUBE, _CUBE, *[_TABLE] * 3)
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
                        out.needs[step, layer, gpu] += 1
                        out.misses[step, layer, gpu] += 1 - hits
                        out.copies[layer] += 1 - hits
                        out.counts[ACTIVATED, step, at, gpu] += 1
                        out.counts[HITS, step, at, gpu] += hits
                needs = out.needs[step, layer]
                out.busiest[layer, step] = top_k - needs[senders[step]]
                for number in needs:
                    out.times[layer, number] += 1
                move_up_apart(lines, needed, ranks, bases, top_k)

    return spread


@lru_cache
def spread_of(room: int) -> Any:
    """``spread`` where there is so much room, compiled; kept on disk."""
    return specialised(spread_with, _SPREAD, constants=(room,), allocates=False)
