"""The tokens of what a scheduler decided, one by one, compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

from moesim.runtime.compiled import njit, record, types


class Sources(NamedTuple):
    """Where tokens of requests have their rows: the tokens of request ``i`` are from ``first[i]``
    on among those of all, but the ``shared[i]`` first ones, which are those of the request that it
    ``follows``; the runs of rows of all of them, as ``rows.Runs`` has them.
    """

    first: Any
    shared: Any
    follows: Any
    begin: Any
    row: Any
    rows: Any
    shift: Any


class Entry(NamedTuple):
    """Of each entry of steps int64[n]: ``who``, its first token, how many, whether it ``gives``
    some, its drafts, its ``gpu``, and the length of its request's prompt.
    """

    who: Any
    start: Any
    count: Any
    gives: Any
    drafts: Any
    gpu: Any
    prompt: Any


class Tokens(NamedTuple):
    """What is filled in, of each token: its row, GPU (from 0s), request and position, whether it
    decodes, has logits, and is no draft that is rejected.
    """

    row: Any
    gpu: Any
    request: Any
    position: Any
    decodes: Any
    outputs: Any
    kept: Any


_FLAT, _MASK = types.int64[::1], types.boolean[::1]
SOURCES, ENTRY = record(Sources, *[_FLAT] * 7), record(Entry, *[_FLAT] * 7)
TOKENS = record(Tokens, *[_FLAT] * 4, *[_MASK] * 3)


@njit(types.int64(SOURCES, types.int64, types.int64), cache=True, _nrt=False)
def _run_of(sources: Any, token: int, near: int) -> int:
    """The run of a ``token`` among those of all requests, the last that begins there or before,
    which may be the one ``near``.
    """
    low, high = 0, len(sources.begin)
    if sources.begin[near] <= token and (near + 1 == high or sources.begin[near + 1] > token):
        return near
    while high - low > 1:
        middle = (low + high) // 2
        if sources.begin[middle] <= token:
            low = middle
        else:
            high = middle
    return low


_TUPLE: Any = types.UniTuple


@njit(_TUPLE(types.int64, 2)(SOURCES, _FLAT, *[types.int64] * 3), cache=True, _nrt=False)
def rows_of(sources: Any, runs_of: Any, request: int, position: int, end: int) -> tuple[int, int]:
    """The row of a token of a ``request``, and how many before the one at ``end`` take that and the
    rows behind it; ``runs_of`` as of ``spell_out``.
    """
    own, last = request, end
    while position < sources.shared[own]:
        last = min(last, sources.shared[own])
        own = sources.follows[own]
    token = sources.first[own] + position
    run = runs_of[own] = _run_of(sources, token, runs_of[own])
    inside = (sources.shift[run] + token - sources.begin[run]) % sources.rows[run]
    number = min(last - position, sources.rows[run] - inside)
    if run + 1 < len(sources.begin):
        number = min(number, sources.begin[run + 1] - token)
    return sources.row[run] + inside, number


@njit(types.void(SOURCES, ENTRY, _FLAT, TOKENS), cache=True, _nrt=False)
def spell_out(sources: Any, entries: Any, runs_of: Any, tokens: Any) -> None:
    """Fill in the ``tokens`` of ``entries``; ``runs_of`` int64[requests]: about where the runs of
    each are.
    """
    at = 0
    for entry in range(len(entries.who)):
        who, start, count = entries.who[entry], entries.start[entry], entries.count[entry]
        gives, drafts, gpu = entries.gives[entry], entries.drafts[entry], entries.gpu[entry]
        decodes = count == 1 + drafts and gives > 0 and start >= entries.prompt[entry]
        rejected = drafts + 1 - gives if gives > 0 else 0
        position, end = start, start + count
        while position < end:
            row, number = rows_of(sources, runs_of, who, position, end)
            for i in range(number):
                behind = end - 1 - position - i
                tokens.row[at + i] = row + i
                tokens.request[at + i], tokens.position[at + i] = who, position + i
                tokens.decodes[at + i] = decodes
                tokens.outputs[at + i] = gives > 0 and behind <= drafts
                tokens.kept[at + i] = behind >= rejected
            for i in range(number if gpu > 0 else 0):
                tokens.gpu[at + i] = gpu
            at, position = at + number, position + number
