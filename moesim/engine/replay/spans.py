"""The rows of the trace that passes take, as spans of neighbours: prompts take one row behind the
other, perhaps round and round, so that what a span chooses is the difference of two running counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Ints
from moesim.runtime.compiled import built_in, njit, record, types
from moesim.trace.routing import NO_EXPERT

SHORTEST = 8
"""Rows of a span at least; what is shorter is counted row by row."""
CELLS = 1 << 24
"""Running counts that are kept at most."""


class Spans(NamedTuple):
    """The rows that parts of passes take: of part ``i`` those in ``single`` int64[n] from
    ``single_at[i]`` to ``single_at[i + 1]``, and ``first:last``, so many ``times``, of the spans
    from ``spans_at[i]`` to ``spans_at[i + 1]``.
    """

    single_at: Any
    single: Any
    spans_at: Any
    first: Any
    last: Any
    times: Any


class Running(NamedTuple):
    """Choices of each expert in all rows before each block of ``every`` rows: ``counts``
    int32[MoE layers, blocks + 1, homes], of which the last blocks may be missing; empty: unknown.
    And the ``places`` uint16[MoE layers, rows, k] of what rows choose, where experts are home, if
    all choose k; empty: unknown.
    """

    counts: Any
    every: Any
    places: Any = np.zeros((0, 0, 0), np.uint16)


UNKNOWN = Running(np.zeros((0, 0, 0), np.int32), 1)

_INT, _FLAT, _TABLE, _MASK = types.int64, types.int64[::1], types.int64[:, ::1], types.boolean[::1]
IDS = types.Array(types.uint16, 3, "C", readonly=True)
SPANS = record(Spans, *[_FLAT] * 6)
_COUNTS = types.int32[:, :, ::1]
RUNNING = record(Running, _COUNTS, _INT, types.uint16[:, :, ::1])


@njit(_INT(_TABLE, _INT, _INT, _INT), cache=True, _nrt=False)
def _change(edges: Any, number: int, row: int, by: int) -> int:
    """Let a level change at ``row``, among so many ``edges`` [2, room] (row, change), which are in
    order; how many there are then.
    """
    low, high = 0, number
    while low < high:
        middle = (low + high) // 2
        if edges[0, middle] < row:
            low = middle + 1
        else:
            high = middle
    if low < number and edges[0, low] == row:
        edges[1, low] += by
        return number
    for i in range(number, low, -1):
        edges[0, i], edges[1, i] = edges[0, i - 1], edges[1, i - 1]
    edges[0, low], edges[1, low] = row, by
    return number + 1


@njit(_INT(_FLAT, _MASK, _FLAT, _INT, SPANS, _TABLE), cache=True, _nrt=False)
def _find_spans(
    rows: Any, decodes: Any, offsets: Any, shortest: int, found: Any, edges: Any
) -> int:
    """Fill in what is ``found``; how many rows are in spans."""
    parts, single, spans, within = (2 if len(decodes) > 0 else 1), 0, 0, 0
    for part in range(parts * (len(offsets) - 1)):
        step = part // parts
        token, end = offsets[step] - offsets[0], offsets[step + 1] - offsets[0]
        found.single_at[part], found.spans_at[part], number = single, spans, 0
        while token < end:
            decode = parts > 1 and decodes[token]
            begin, token = token, token + 1
            while token < end and rows[token] == rows[token - 1] + 1:
                if parts > 1 and decodes[token] != decode:
                    break
                token += 1
            if parts > 1 and decode != (part % parts == 1):
                continue
            if token - begin < shortest:
                for i in range(begin, token):
                    found.single[single] = rows[i]
                    single += 1
                continue
            within += token - begin
            number = _change(edges, number, rows[begin], 1)
            number = _change(edges, number, rows[token - 1] + 1, -1)
        level = 0
        for i in range(number - 1):
            level += edges[1, i]
            if level > 0:
                found.first[spans], found.last[spans] = edges[0, i], edges[0, i + 1]
                found.times[spans] = level
                spans += 1
    found.single_at[-1], found.spans_at[-1] = single, spans
    return within


def spans_of(
    rows: Ints, offsets: Ints, decodes: Any = (), *, every: bool = False
) -> tuple[Spans, int]:
    """The spans of passes of ``rows`` int64[tokens] with ``offsets``, and how many rows are in
    some. A pass is a part, or, where it is said which tokens ``decodes`` bool[tokens], two: those
    that do not, and those that do. ``every``: all are counted row by row.
    """
    passes, mask = len(offsets) - 1, np.ascontiguousarray(decodes, np.bool_)
    ends = np.zeros((2, passes * (2 if len(mask) else 1) + 1), np.int64)
    single = np.empty(len(rows), np.int64)
    spans = np.empty((3, 2 * (len(rows) // SHORTEST) + 2), np.int64)
    found = Spans(ends[0], single, ends[1], *spans)
    edges = np.empty((2, spans.shape[1] + 2), np.int64)
    shortest = len(rows) + 1 if every else SHORTEST
    within = int(_find_spans(rows, mask, offsets, shortest, found, edges))
    return found, within


@njit(types.void(IDS, _TABLE, _INT, _COUNTS), cache=True)
def _run_up(ids: Any, home: Any, every: int, counts: Any) -> None:
    """Fill in running ``counts``."""
    for block in range(1, counts.shape[1]):
        for layer in range(len(counts)):
            for at in range(counts.shape[2]):
                counts[layer, block, at] = counts[layer, block - 1, at]
            for row in range((block - 1) * every, block * every):
                for k in range(ids.shape[2]):
                    expert = ids[row, layer, k]
                    if expert != NO_EXPERT:
                        counts[layer, block, home[layer, expert]] += 1


def running_of(ids: Any, home: Ints, homes: int) -> Running:
    """The running counts of a trace's ``ids`` uint16[rows, MoE layers, k], where ``home``
    int64[MoE layers, experts] says the places of experts, of so many ``homes``.
    """
    layers, every = len(home), 1
    while layers * homes * (len(ids) // every + 1) > CELLS:
        every *= 2
    counts = np.zeros((layers, len(ids) // every + 1, homes), np.int32)
    _run_up(ids, home, every, counts)
    return Running(counts, every)


@built_in
def _add_rows(
    ids: Any, running: Any, own: Any, layer: int, first: int, last: int, times: int, count: Any
) -> None:
    """Add the choices of rows first:last, so many ``times`` each."""
    if len(running.places) > 0:
        places = running.places[layer]
        for row in range(first, last):
            for k in range(places.shape[1]):
                count[places[row, k]] += times
        return
    for row in range(first, last):
        for k in range(ids.shape[2]):
            expert = ids[row, layer, k]
            if expert != NO_EXPERT:
                count[own[expert]] += times


@built_in
def _add_places(places: Any, rows: Any, first: int, last: int, count: Any) -> None:
    """Add the choices of ``rows`` first:last, of which ``places`` are known."""
    for i in range(first, last):
        row = rows[i]
        for k in range(places.shape[1]):
            count[places[row, k]] += 1


def places_of(ids: Any, home: Ints) -> NDArray[np.uint16]:
    """The ``places`` of what rows choose, for ``Running``; nothing where they would be too many, or
    a row chooses fewer.
    """
    layers, known = range(ids.shape[1]), ids.size <= CELLS and not (ids == NO_EXPERT).any()
    found = [home[layer].astype(np.uint16)[ids[:, layer]] for layer in layers if known]
    return np.stack(found) if found else np.zeros((0, 0, 0), np.uint16)


@njit(types.void(IDS, RUNNING, SPANS, _FLAT, _INT, _INT, _FLAT), cache=True, _nrt=False)
def add_choices(
    ids: Any, running: Any, spans: Any, own: Any, layer: int, part: int, count: Any
) -> None:
    """Add to ``count`` int64[homes] the choices of a ``part`` of a pass in a ``layer``, where
    ``own`` int64[experts] says the places of experts.
    """
    first, last = spans.single_at[part], spans.single_at[part + 1]
    if len(running.places) > 0:
        _add_places(running.places[layer], spans.single, first, last, count)
    else:
        for i in range(first, last):
            _add_rows(ids, running, own, layer, spans.single[i], spans.single[i] + 1, 1, count)
    every, blocks = running.every, running.counts.shape[1]
    for i in range(spans.spans_at[part], spans.spans_at[part + 1]):
        first, last, times = spans.first[i], spans.last[i], np.int32(spans.times[i])
        low = min((first + every // 2) // every, blocks - 1)
        high = min((last + every // 2) // every, blocks - 1)
        if high <= low:
            _add_rows(ids, running, own, layer, first, last, times, count)
            continue
        before, after = running.counts[layer, low], running.counts[layer, high]
        for at in range(len(count)):
            count[at] += times * np.int32(after[at] - before[at])  # 32 bits: multiplied together
        _add_rows(ids, running, own, layer, first, low * every, times, count)
        _add_rows(ids, running, own, layer, low * every, first, -times, count)
        _add_rows(ids, running, own, layer, high * every, last, times, count)
        _add_rows(ids, running, own, layer, last, high * every, -times, count)
