"""The rows of the trace that tokens of served requests take."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from moesim.config.errors import InputError
from moesim.workload.arrivals.base import Prefixes
from moesim.workload.binding import Binding, Recorded
from moesim.workload.schedule import Ints

RECORDED, REPEATED, BORROWED, ELSEWHERE = range(4)
SHARES = ("recorded", "repeated", "borrowed")
PROMPT, ANSWER = "prompt", "answer"
MANY = 2
"""Domains that tell requests apart."""
MOST_CHAINED = 1 << 16
"""Requests that one goes on with, at most."""


class Runs(NamedTuple):
    """Tokens of requests as runs of rows of the trace, in order: ``begin`` int64[n] the token, of
    all tokens of all requests one behind the other; its row is ``row`` + ``shift``, the next one
    the next row, but after the ``rows``-th comes ``row`` again. ``mark`` int64[n]: what it is for
    a request to have these.
    """

    begin: Ints
    row: Ints
    rows: Ints
    shift: Ints
    mark: Ints

    def shares(self, tokens: int) -> dict[str, float]:
        """Of all ``tokens`` that are computed here, by mark."""
        spans = np.diff(np.append(self.begin, tokens))
        by_mark = np.bincount(self.mark, spans, ELSEWHERE + 1)[:ELSEWHERE]
        every = max(float(by_mark.sum()), 1.0)
        return {name: float(part) / every for name, part in zip(SHARES, by_mark, strict=True)}


class Part(NamedTuple):
    """Prompts, or answers, of requests: ``tokens`` int64[n] that each has in passes, from its token
    ``first`` int64[n] on, and the trace's ``row``, ``rows`` and ``domain`` int64[requests of the
    trace].
    """

    name: str
    tokens: Ints
    first: Ints
    row: Ints
    rows: Ints
    domain: Ints


def runs_of(part: Part, bound: Ints, binding: Binding, stream: Generator) -> list[Ints]:
    """The columns of ``Runs`` of ``part``, of requests that are ``bound`` to those of the trace."""
    have = part.rows[bound]
    if binding.when_short == "error" and (short := np.flatnonzero(have < part.tokens)).size:
        one = int(short[0])
        what = f"request {one} has {part.tokens[one]} tokens of its {part.name}, and the trace's"
        what += f" has {have[one]} rows; write repeat, chain or truncate, or shorter lengths"
        raise InputError(f"workload.routing.when_short: {what}")
    there = np.flatnonzero(part.tokens > 0)
    if binding.when_short == "chain" or (binding.when_short == "auto" and part.name == PROMPT):
        return _chained(part, bound, there, stream)
    own = np.zeros_like(there)
    columns = [part.first[there], part.row[bound[there]], have[there], own, own + RECORDED]
    again = there[part.tokens[there] > have[there]]
    zero = np.zeros_like(again)
    more = [part.first[again] + have[again], part.row[bound[again]], have[again], zero]
    return [np.concatenate(pair) for pair in zip(columns, [*more, zero + REPEATED], strict=True)]


def _chained(part: Part, bound: Ints, there: Ints, stream: Generator) -> list[Ints]:
    """Where rows end, those of another request, drawn evenly of those of its domain."""
    draw, found = _others(part), list[tuple[Ints, ...]]()
    at, left, of = part.first[there], part.tokens[there], bound[there]
    mark = np.full(len(there), RECORDED)
    for _ in range(MOST_CHAINED):
        if found and not len(at):
            break
        rows = part.rows[of]
        found.append((at, part.row[of], rows, np.zeros_like(at), mark))
        goes_on = left > rows
        at, left = (at + rows)[goes_on], (left - rows)[goes_on]
        of = draw(of[goes_on], stream)
        mark = np.full(len(at), BORROWED)
    return [np.concatenate(column) for column in zip(*found, strict=True)]


def _others(part: Part) -> Callable[[Ints, Generator], Ints]:
    """What draws, for requests of the trace, others of their domains that have rows of ``part``, of
    any where none of the domain has some.
    """
    others = np.flatnonzero(part.rows > 0)
    if len(np.unique(part.domain[others])) < MANY:
        return lambda of, stream: others[stream.integers(0, len(others), len(of))]
    others = others[np.argsort(part.domain[others], kind="stable")]
    ends = np.searchsorted(part.domain[others], part.domain[:, None] + [0, 1])
    ends[ends[:, 0] == ends[:, 1]] = 0, len(others)
    return lambda of, stream: others[stream.integers(ends[of, 0], ends[of, 1])]


def borrowed_prompts(part: Part, recorded: Recorded, bound: Ints, stream: Generator) -> list[Ints]:
    """Prompts that take their request's decode rows, from a drawn one on, round and round."""
    rows = recorded.decode_rows[bound]
    shift = np.floor(stream.random(len(bound)) * rows).astype(np.int64)
    there = part.tokens > 0
    columns = part.first, recorded.decode_row[bound], rows, shift, np.full_like(rows, BORROWED)
    return [column[there] for column in columns]


def elsewhere(prompt: Part) -> list[Ints]:
    """Prompts that are not computed here."""
    zero = np.zeros_like(prompt.first)
    return [prompt.first, zero, zero + 1, zero, zero + ELSEWHERE]


def prefix_runs(
    prefixes: Prefixes, prompt: Part, seed: int, pool: tuple[Ints, Ints]
) -> tuple[list[Ints], Part]:
    """Blocks of prompts with an id take rows that the id and ``seed`` say, so that equal prefixes
    have equal routing: from ``pool``, the row and number of rows of requests of the trace. And what
    is left of the prompts behind them.
    """
    counts = np.diff(prefixes.offsets)
    request = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(request)) - np.repeat(prefixes.offsets[:-1], counts)
    token = place * prefixes.block_tokens[request]
    inside = token < prompt.tokens[request]
    luck = mixed(prefixes.ids[inside].astype(np.uint64), np.uint64(seed))
    row, rows = pool
    of = (luck % np.uint64(len(row))).astype(np.int64)
    shift = ((luck >> np.uint64(32)) % rows[of].astype(np.uint64)).astype(np.int64)
    begin = (prompt.first[request] + token)[inside]
    covered = np.minimum(counts * prefixes.block_tokens, prompt.tokens)
    behind = prompt._replace(tokens=prompt.tokens - covered, first=prompt.first + covered)
    return [begin, row[of], rows[of], shift, np.full(len(begin), BORROWED)], behind


def mixed(ids: NDArray[np.uint64], seed: np.uint64) -> NDArray[np.uint64]:
    """64 bits that look drawn, of ``ids`` and ``seed``: SplitMix64 (Steele, Lea, Flood, 2014)."""
    with np.errstate(over="ignore"):
        bits = ids + (seed + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> np.uint64(31))


def joined(parts: list[list[Ints]]) -> Runs:
    """All runs in order of their tokens."""
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0])
    return Runs(*(column[order] for column in columns))
