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
    """What is filled in, of each token: its row, GPU, request and position, whether it decodes, has
    logits, and is no draft that is rejected.
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


@njit(types.int64(SOURCES, _FLAT, types.int64, types.int64), cache=True, _nrt=False)
def row_of(sources: Any, runs_of: Any, request: int, position: int) -> int:
    """The row of a token of a ``request``; ``runs_of`` as of ``spell_out``."""
    own = request
    while position < sources.shared[own]:
        own = sources.follows[own]
    token = sources.first[own] + position
    run = runs_of[request] = _run_of(sources, token, runs_of[request])
    inside = (sources.shift[run] + token - sources.begin[run]) % sources.rows[run]
    return int(sources.row[run] + inside)


@njit(types.void(SOURCES, ENTRY, _FLAT, TOKENS), cache=True, _nrt=False)
def spell_out(sources: Any, entries: Any, runs_of: Any, tokens: Any) -> None:
    """Fill in the ``tokens`` of ``entries``; ``runs_of`` int64[requests]: about where the runs of
    each are.
    """
    at, run, inside, runs = 0, 0, 0, len(sources.begin)
    for entry in range(len(entries.who)):
        who, start, count = entries.who[entry], entries.start[entry], entries.count[entry]
        gives, drafts, before = entries.gives[entry], entries.drafts[entry], -2
        decodes = count == 1 + drafts and gives > 0 and start >= entries.prompt[entry]
        rejected = drafts + 1 - gives if gives > 0 else 0
        for position in range(start, start + count):
            request = who
            while position < sources.shared[request]:
                request = sources.follows[request]
            token = sources.first[request] + position
            inside += 1
            if token != before + 1 or (run + 1 < runs and sources.begin[run + 1] == token):
                run = runs_of[request] = _run_of(sources, token, runs_of[request])
                inside = (sources.shift[run] + token - sources.begin[run]) % sources.rows[run]
            if inside == sources.rows[run]:
                inside = 0
            before, behind = token, start + count - 1 - position
            tokens.row[at], tokens.gpu[at] = sources.row[run] + inside, entries.gpu[entry]
            tokens.request[at], tokens.position[at] = who, position
            tokens.decodes[at], tokens.outputs[at] = decodes, gives > 0 and behind <= drafts
            tokens.kept[at] = behind >= rejected
            at += 1
