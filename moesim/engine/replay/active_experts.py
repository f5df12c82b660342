"""The active experts of a run of passes straight from its expert ids, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Ints
from moesim.engine.marks import BOTH, DECODE, PROMPT
from moesim.engine.replay.spans import IDS, RUNNING, SPANS, add_choices
from moesim.runtime.compiled import njit, types
from moesim.trace.routing import NO_EXPERT

FEW, MANY = 16, 64
"""Distinct experts up to which sorting them is faster than looking at all, and choices from which
on there are hardly ever as few.
"""

_FLAT, _TABLE, _CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
_MASK = types.boolean[:, ::1]


@njit(types.void(IDS, _FLAT, _FLAT, _FLAT, _MASK, _CUBE), cache=True)
def count_choices(
    ids: Any, rows: Any, senders: Any, offsets: Any, active: Any, choices: Any
) -> None:
    """Choices int64[passes, MoE layers, gpus] by tokens of each GPU.

    ``rows`` and ``senders`` int64[tokens] of the passes' tokens, ``offsets`` int64[passes + 1] into
    them, ``active`` bool[passes, MoE layers].
    """
    _, layers, top_k = ids.shape
    for step in range(len(offsets) - 1):
        for token in range(offsets[step] - offsets[0], offsets[step + 1] - offsets[0]):
            row, sender = rows[token], senders[token]
            for layer in range(layers):
                number = 0
                for k in range(top_k):
                    number += ids[row, layer, k] != NO_EXPERT
                choices[step, layer, sender] += number * active[step, layer]


def sum_choices(
    chosen: Any, rows: Ints, senders: Ints, offsets: Ints, active: NDArray[np.bool_], choices: Ints
) -> None:
    """As ``count_choices``, where it is known how many experts each row has ``chosen``
    int64[rows, MoE layers].
    """
    sums = np.zeros((choices.shape[2], chosen.shape[1]), np.int64)
    _sum_choices(chosen, rows, senders, offsets, active, choices, sums)


@njit(types.void(_TABLE, _FLAT, _FLAT, _FLAT, _MASK, _CUBE, _TABLE), cache=True, _nrt=False)
def _sum_choices(
    chosen: Any, rows: Any, senders: Any, offsets: Any, active: Any, choices: Any, sums: Any
) -> None:
    """The same, with room for ``sums`` int64[senders, MoE layers]."""
    layers = chosen.shape[1]
    for step in range(len(offsets) - 1):
        for sender in range(len(sums)):
            for layer in range(layers):
                sums[sender, layer] = 0
        for token in range(offsets[step] - offsets[0], offsets[step + 1] - offsets[0]):
            of_row, own = chosen[rows[token]], sums[senders[token]]
            for layer in range(layers):
                own[layer] += of_row[layer]
        for layer in range(layers):
            for sender in range(len(sums)):
                choices[step, layer, sender] = sums[sender, layer] * active[step, layer]


@njit(types.void(_FLAT, types.int64, _FLAT), cache=True)
def _sort(values: Any, count: int, ordered: Any) -> None:
    """Sort the first ``count``, all different, into ``ordered``; without a branch to guess."""
    for i in range(count):
        value, rank = values[i], 0
        for j in range(count):
            rank += values[j] < value
        ordered[rank] = value


@njit(types.int64(IDS, _FLAT, _FLAT, types.int64, _FLAT, _FLAT), cache=True, _nrt=False)
def _count_few(ids: Any, rows: Any, own: Any, layer: int, count: Any, seen: Any) -> int:
    """Add to ``count`` the choices of ``rows``, and list those that are ``seen``; how many."""
    distinct = 0
    for row in rows:
        for k in range(ids.shape[2]):
            expert = ids[row, layer, k]
            if expert == NO_EXPERT:
                continue
            at = own[expert]
            if count[at] == 0:
                seen[distinct] = at
                distinct += 1
            count[at] += 1
    return distinct


@njit(
    types.boolean(IDS, _FLAT, _FLAT, types.int64, _TABLE, _FLAT, _FLAT, _FLAT, types.int64[:, :]),
    cache=True, _nrt=False,
)  # fmt: skip
def _find_by_row(
    ids: Any, rows: Any, own: Any, layer: int, columns: Any,
    active_offsets: Any, experts: Any, active_rows: Any, executed: Any,
) -> bool:  # fmt: skip
    """As ``find_active_experts`` of a layer, in steps that have one of the ``rows`` each: all are
    sorted at once, in vectors. ``columns`` int64[k, steps] is room, ``executed`` of the layer.
    Whether all rows choose k different ones.
    """
    steps, top_k, twice = len(rows), ids.shape[2], False
    for step in range(steps):
        row = rows[step]
        for k in range(top_k):
            expert = ids[row, layer, k]
            if expert == NO_EXPERT:
                return False
            columns[k, step] = own[expert]
    for last in range(top_k - 1, 0, -1):
        for k in range(last):
            left, right = columns[k], columns[k + 1]
            for step in range(steps):
                one, other = left[step], right[step]
                left[step], right[step] = min(one, other), max(one, other)
    for k in range(top_k - 1):
        left, right = columns[k], columns[k + 1]
        for step in range(steps):
            twice |= left[step] == right[step]
    for step in range(steps):
        for k in range(top_k):
            experts[step * top_k + k] = columns[k, step]
            active_rows[step * top_k + k] = 1
        active_offsets[step + 1] = (step + 1) * top_k
        executed[step, 0] += 0 if twice else top_k
    return not twice


@njit(types.boolean(SPANS, _MASK), cache=True, _nrt=False)
def _have_a_row_each(spans: Any, active: Any) -> bool:
    """Whether steps have one row each, and need all layers."""
    steps, layers = active.shape
    each = len(spans.single_at) == steps + 1 and spans.spans_at[steps] == 0
    for step in range(steps if each else 0):
        each &= spans.single_at[step] == step and spans.single_at[step + 1] == step + 1
        for layer in range(layers):
            each &= active[step, layer]
    return bool(each)


@njit(
    types.void(
        IDS, RUNNING, SPANS, _MASK, _TABLE, _FLAT, types.int64, _TABLE, _TABLE, _TABLE, _CUBE,
    ),
    cache=True,
)  # fmt: skip
def find_active_experts(
    ids: Any, running: Any, spans: Any, active: Any, home: Any, gpu_of_home: Any, gpus: int,
    active_offsets: Any, experts: Any, active_rows: Any, executed: Any,
) -> None:  # fmt: skip
    """Fill in what each MoE layer needs on each GPU, layer by layer, each ascending, of passes
    whose tokens take ``spans`` of rows, a part each.

    ``home`` int64[MoE layers, experts]: GPU and local number as one, GPU by GPU in equal steps;
    ``gpu_of_home`` int64[homes]. ``active_offsets`` int64[layers x gpus, passes + 1] into
    ``experts`` and ``active_rows`` [layers x gpus, most + 1]. ``executed`` int64[passes, layers
    or 1, gpus] rows, added to.
    """
    _, layers, top_k = ids.shape
    homes, width = len(gpu_of_home), len(gpu_of_home) // gpus
    count, filled = np.zeros(homes, np.int64), np.zeros(gpus, np.int64)
    seen, ordered = np.empty(homes, np.int64), np.empty(homes, np.int64)
    single = gpus == 1 and _have_a_row_each(spans, active)
    columns = np.empty((top_k, len(active) if single else 0), np.int64)
    active_offsets[:, 0] = 0
    for layer in range(layers):
        kept, own = layer if executed.shape[1] > 1 else 0, home[layer]
        filled[:] = 0
        line = active_offsets[layer], experts[layer], active_rows[layer], executed[:, kept]
        if single and _find_by_row(ids, spans.single, own, layer, columns, *line):
            continue
        for step in range(len(active)):
            distinct, first, last = 0, spans.single_at[step], spans.single_at[step + 1]
            if spans.spans_at[step + 1] > spans.spans_at[step] or (last - first) * top_k > MANY:
                distinct = FEW + 1
                if active[step, layer]:
                    add_choices(ids, running, spans, own, layer, step, count)
            elif active[step, layer]:
                distinct = _count_few(ids, spans.single[first:last], own, layer, count, seen)
            for gpu in range(gpus if distinct > FEW else 0):
                work, place, total = layer * gpus + gpu, filled[gpu], 0
                for at in range(gpu * width, gpu * width + width):
                    number = count[at]  # of none it is written over
                    experts[work, place], active_rows[work, place] = at - gpu * width, number
                    place, total, count[at] = place + (number > 0), total + number, 0
                filled[gpu] = place
                executed[step, kept, gpu] += total
            distinct = 0 if distinct > FEW else distinct
            _sort(seen, distinct, ordered)
            for at in ordered[:distinct]:
                gpu = gpu_of_home[at]
                work, place = layer * gpus + gpu, filled[gpu]
                experts[work, place], active_rows[work, place] = at - gpu * width, count[at]
                executed[step, kept, gpu] += count[at]
                filled[gpu], count[at] = place + 1, 0
            for gpu in range(gpus):
                active_offsets[layer * gpus + gpu, step + 1] = filled[gpu]


@njit(
    types.void(
        IDS, IDS, _FLAT, _FLAT, _FLAT, _MASK, _TABLE, types.int64, _TABLE, _TABLE,
        _TABLE,
    ),
    cache=True,
)  # fmt: skip
def sum_weights(
    ids: Any, weights: Any, units: Any, rows: Any, offsets: Any, active: Any, home: Any, homes: int,
    active_offsets: Any, experts: Any, sums: Any,
) -> None:  # fmt: skip
    """Gate weights of each active expert, in units of 1 / WEIGHT_UNIT: ``sums`` as ``experts`` is.

    ``weights`` uint16[rows, MoE layers, k]: the trace's fp16 as they are, and ``units``
    int64[65536] what each is; else as in ``find_active_experts``.
    """
    _, layers, top_k = ids.shape
    gpus = len(active_offsets) // layers
    width, sum_of = homes // gpus, np.zeros(homes, np.int64)
    for layer in range(layers):
        for step in range(len(offsets) - 1):
            if not active[step, layer]:
                continue
            for token in range(offsets[step] - offsets[0], offsets[step + 1] - offsets[0]):
                for k in range(top_k):
                    expert = ids[rows[token], layer, k]
                    if expert != NO_EXPERT:
                        sum_of[home[layer, expert]] += units[weights[rows[token], layer, k]]
            for gpu in range(gpus):
                work = layer * gpus + gpu
                for i in range(active_offsets[work, step], active_offsets[work, step + 1]):
                    at = gpu * width + experts[work, i]
                    sums[work, i] = sum_of[at]
                    sum_of[at] = 0


@njit(
    types.void(IDS, _FLAT, types.boolean[::1], _FLAT, _MASK, _TABLE, types.int64, _TABLE, _TABLE,
               _TABLE, types.int8[:, ::1]),
    cache=True,
)  # fmt: skip
def mark_active_experts(
    ids: Any, rows: Any, decodes: Any, offsets: Any, active: Any, home: Any, homes: int,
    active_offsets: Any, experts: Any, active_rows: Any, marks: Any,
) -> None:  # fmt: skip
    """Whose tokens need each active expert (``marks.MARKS``), by which of the tokens ``decodes``;
    else as in ``find_active_experts``, which found them: only decoded tokens of passes with others
    are looked at.
    """
    _, layers, top_k = ids.shape
    gpus = len(active_offsets) // layers
    width, decoded = homes // gpus, np.zeros(homes, np.int64)
    for step in range(len(offsets) - 1):
        first, last = offsets[step] - offsets[0], offsets[step + 1] - offsets[0]
        answers = decodes[first:last].sum()
        for layer in range(layers):
            if not active[step, layer]:
                continue
            for token in range(first, last if 0 < answers < last - first else first):
                for k in range(top_k if decodes[token] else 0):
                    expert = ids[rows[token], layer, k]
                    if expert != NO_EXPERT:
                        decoded[home[layer, expert]] += 1
            for gpu in range(gpus):
                work = layer * gpus + gpu
                begin, end = active_offsets[work, step], active_offsets[work, step + 1]
                if answers == 0 or answers == last - first:
                    marks[work, begin:end] = DECODE if answers else PROMPT
                    continue
                for i in range(begin, end):
                    at = gpu * width + experts[work, i]
                    marks[work, i] = BOTH if decoded[at] else PROMPT
                    if decoded[at] == active_rows[work, i]:
                        marks[work, i] = DECODE
                    decoded[at] = 0
