"""The requests that are served: when they come, how long they are, which rows they take."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError, Problem
from moesim.config.registry import answering, wrong_answer
from moesim.runtime.memory import available_bytes
from moesim.trace.routing import RoutingTrace
from moesim.workload.arrivals.base import (
    Arrivals,
    Arrived,
    fault_of_arrived,
    in_int64,
    whole_column,
)
from moesim.workload.binding import Binding, Nearest, Recorded, nearest_of, with_rows
from moesim.workload.lengths.base import Lengths, Pair, fault_of_lengths
from moesim.workload.rows import (
    ANSWER,
    PROMPT,
    Part,
    Runs,
    borrowed_prompts,
    elsewhere,
    joined,
    prefix_runs,
    runs_of,
)
from moesim.workload.schedule import Ints
from moesim.workload.serving.requests.prefixes import contents_of, session_contents
from moesim.workload.serving.state import Asked

if TYPE_CHECKING:
    from moesim.workload.serving.requests.tokens import Sources, Tokens


REQUEST_BYTES, WORTH_SAYING = 1_900, GIB
"""Of a request of one token at a run's end, measured over 300,000 of them; and what is worth to
look for.
"""


@dataclass(frozen=True)
class Load:
    """What is asked of an engine: ``count`` requests (None: as many as the trace, or the file of
    arrivals, has). ``prompts``: whether prompts are computed here.
    """

    arrivals: Arrivals
    lengths: Lengths
    binding: Binding
    count: int | None = None
    prompts: bool = True
    seed: int = 0
    folders: Sequence[Path] = ()

    def stream(self, name: str) -> np.random.Generator:
        """The draws of ``name``, which no other ones move."""
        return np.random.default_rng([self.seed, zlib.crc32(f"serving.{name}".encode())])


@dataclass(frozen=True, eq=False)
class ServedRequests:
    """Requests in order of arrival: what a scheduler is asked, and ``runs``, the rows of their
    tokens, request ``i``'s from ``begin[i]`` on. ``bound`` int64[n]: the trace's request of each.
    ``astray`` int64[tokens]: of each of these the token of its request whose row a rejected draft
    in its place takes; None: its own.
    """

    asked: Asked
    bound: Ints
    begin: Ints
    runs: Runs
    astray: Ints | None = None

    @cached_property
    def _shared(self) -> Ints:
        """Of each request the tokens that it has in common with the one before in its session."""
        asked, before = self.asked, self.asked.follows
        computed = asked.input_tokens[before] + asked.output_tokens[before] - 1
        return np.where(before >= 0, np.minimum(asked.input_tokens, computed), 0)

    @cached_property
    def sources(self) -> Sources:
        """Where tokens have their rows, as compiled code takes it."""
        from moesim.workload.serving.requests.tokens import Sources  # loads numba

        where = (self.begin, self._shared, self.asked.follows, *self.runs[:4])
        return Sources(*map(np.ascontiguousarray, where))

    @cached_property
    def near(self) -> Ints:
        """Of each request a run of rows near the one that was asked for last."""
        return np.zeros_like(self.bound)

    @property
    def routing_share(self) -> dict[str, float]:
        """Of tokens in passes, how many take rows as recorded, again, or of others."""
        return self.runs.shares(int(self.begin[-1]))

    def rows(self, request: Ints, token: Ints) -> Ints:
        """Rows of the trace int64[n] of tokens of requests; what a prompt has of the session before
        it has the rows that it had there.
        """
        none = np.zeros_like(request)
        rows: Ints = self.tokens((request, token, none + 1, none, none, none, none)).row
        return rows

    def tokens(self, entries: tuple[Ints, ...]) -> Tokens:
        """The tokens of ``entries`` of steps, one by one: ``Entry`` says what these are."""
        tokens = no_tokens(int(entries[2].sum()))
        self.fill(entries, tokens)
        return tokens

    def fill(self, entries: tuple[Ints, ...], tokens: Tokens) -> None:
        """Fill in the ``tokens`` of ``entries``, as many as these have."""
        from moesim.workload.serving.requests.tokens import Entry, spell_out  # loads numba

        spell_out(self.sources, Entry(*map(np.ascontiguousarray, entries)), self.near, tokens)
        if self.astray is not None and len(gone := np.flatnonzero(~tokens.kept)):
            request = tokens.request[gone]
            place = self.astray[self.begin[request] + tokens.position[gone]]
            tokens.row[gone] = self.rows(request, place)


def no_tokens(number: int) -> Tokens:
    """So many, which are to be filled in."""
    from moesim.workload.serving.requests.tokens import Tokens  # loads numba

    ints, masks = np.empty((3, number), np.int64), np.empty((3, number), np.bool_)
    return Tokens(ints[0], np.zeros(number, np.int64), ints[1], ints[2], *masks)


def served_requests(load: Load, trace: RoutingTrace, block_size: int) -> ServedRequests:
    """The requests of ``load`` with rows of ``trace``; InputError where they have none."""
    recorded = Recorded.of(trace)
    arrived, bound, lengths = _drawn(load, recorded)
    asked = _asked(arrived, lengths, block_size)
    begin = np.concatenate(([0], np.cumsum(lengths[0] + lengths[1] - 1)))
    return ServedRequests(asked, bound, begin, _runs(load, recorded, bound, arrived, lengths))


def times_and_lengths(load: Load, trace: RoutingTrace) -> tuple[Ints, Pair]:
    """When the requests of ``load`` come, in ns (NEVER: when others end), and how long they are;
    InputError as ``served_requests``.
    """
    arrived, _, lengths = _drawn(load, Recorded.of(trace))
    return arrived.arrival_ns, lengths


def _drawn(load: Load, recorded: Recorded) -> tuple[Arrived, Ints, Pair]:
    """Arrivals, the trace's request of each, and lengths."""
    refuse_too_many(load.count)
    there = with_rows(recorded, load.binding, prompts=load.prompts)
    count = load.count
    if count is None:
        count = np.iinfo(np.int64).max if load.arrivals.reads else len(there)
    with answering("workload.arrivals", load.arrivals):
        arrived = load.arrivals.arrive(count, load.stream("arrivals"), load.folders)
    if fault := fault_of_arrived(load.arrivals, arrived, count):
        raise wrong_answer("workload.arrivals", load.arrivals, fault)
    arrived = in_int64(arrived)
    bound, lengths = _bound(load, recorded, there, arrived)
    return arrived, bound, _shortened(load, recorded, bound, lengths)


def refuse_too_many(count: int | None) -> None:
    """An InputError where so many requests take more memory than there is."""
    size = (count or 0) * REQUEST_BYTES
    if size > WORTH_SAYING and size > (there := available_bytes()):
        what = f"{count:,} requests take {size / GIB:,.0f} GiB of memory at least"
        what += f", and {there / GIB:,.1f} are free; write fewer"
        raise InputError([Problem("", "workload.requests", what)])


def _bound(load: Load, recorded: Recorded, there: Ints, arrived: Arrived) -> tuple[Ints, Pair]:
    """The trace's request of each, and lengths, whichever is first."""
    count, stream = len(arrived.arrival_ns), load.stream("lengths")
    bound = load.binding.bind(count, there, load.stream("routing"))
    if isinstance(load.binding, Nearest):
        lengths = _lengths(load, arrived, stream, None)
        return nearest_of(bound, recorded, lengths), lengths
    return bound, _lengths(load, arrived, stream, recorded.lengths(bound))


def _lengths(load: Load, arrived: Arrived, stream: np.random.Generator, bound: Pair | None) -> Pair:
    """Those that ``load`` asks for, as an int64[n] each; what it is given to look at is its own."""
    seen = deepcopy(arrived)
    with answering("workload.lengths", load.lengths):
        lengths = load.lengths.lengths(seen, stream, bound)
    if fault := fault_of_lengths(lengths, len(arrived.arrival_ns)):
        raise wrong_answer("workload.lengths", load.lengths, fault)
    return whole_column(lengths[0]), whole_column(lengths[1])


def _shortened(load: Load, recorded: Recorded, bound: Ints, lengths: Pair) -> Pair:
    """No longer than the trace's rows, if that is asked."""
    inputs, outputs = lengths
    if load.binding.when_short != "truncate":
        return lengths
    if load.prompts and load.binding.prompts_from == "own":
        inputs = np.minimum(inputs, np.maximum(recorded.prompt_rows[bound], 1))
    return inputs, np.minimum(outputs, recorded.decode_rows[bound] + 1)


def _asked(arrived: Arrived, lengths: Pair, block_size: int) -> Asked:
    count = len(arrived.arrival_ns)
    zero, none = np.zeros(count, np.int64), np.full(count, -1)
    asked = Asked(
        input_tokens=lengths[0],
        output_tokens=lengths[1],
        arrival_ns=arrived.arrival_ns,
        priority=zero if arrived.priority is None else arrived.priority,
        follows=none if arrived.follows is None else arrived.follows,
        think_ns=zero if arrived.think_ns is None else arrived.think_ns,
    )
    if arrived.prefixes is not None:
        return replace(asked, contents=contents_of(asked, arrived.prefixes, block_size))
    if arrived.follows is not None:
        return replace(asked, contents=session_contents(asked, block_size))
    return asked


def _runs(load: Load, recorded: Recorded, bound: Ints, arrived: Arrived, lengths: Pair) -> Runs:
    inputs, outputs = lengths
    begin = np.concatenate(([0], np.cumsum(inputs + outputs - 1)))[:-1]
    stream = load.stream("routing.rows")
    rows = (recorded.prompt_row, recorded.prompt_rows, recorded.domain)
    prompt = Part(PROMPT, inputs, begin, *rows)
    rows = (recorded.decode_row, recorded.decode_rows, recorded.domain)
    answer = Part(ANSWER, outputs - 1, begin + inputs, *rows)
    parts = [runs_of(answer, bound, load.binding, stream)]
    if not load.prompts:
        return joined([elsewhere(prompt), *parts])
    own = load.binding.prompts_from == "own"
    if arrived.prefixes is not None:
        pool = prompt if own else answer
        there = (pool.rows > 0) & recorded.about(load.binding.domain)
        shared, prompt = prefix_runs(
            arrived.prefixes, prompt, load.seed, (pool.row[there], pool.rows[there])
        )
        parts.append(shared)
    if own:
        parts.append(runs_of(prompt, bound, load.binding, stream))
    else:
        parts.append(borrowed_prompts(prompt, recorded, bound, stream))
    return joined(parts)
