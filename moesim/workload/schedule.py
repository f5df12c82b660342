"""The forward passes of a run: which tokens, on which GPU, in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import Phase, RoutingTrace
from moesim.workload.requests import Requests
from moesim.workload.served import PassPhase, Served, phases_of_passes

Ints = NDArray[np.int64]
BEFORE = -2
"""Less than any number that tells passes apart; encoder tokens come before pieces of prompts."""


@dataclass(frozen=True, eq=False)
class Seats:
    """Where and when each request runs: ``slot`` of the batch, decode ``step`` at which it starts,
    and ``admission``, equal for requests whose prompts share a forward pass. Each
    int64[requests].
    """

    slot: Ints
    step: Ints
    admission: Ints


@dataclass(frozen=True, eq=False)
class Schedule:
    """Forward passes in order; pass p holds tokens ``offsets[p]:offsets[p + 1]``.

    ``rows`` int64[n] rows of the trace, ordered by slot, then position; ``gpu`` int64[n] the GPU of
    the token's request; ``request`` int64[n]; ``phase`` uint8[passes]; ``offsets`` int64[passes +
    1]. ``not_before_ns`` int64[passes]: no GPU starts a pass earlier; None: whenever it is free.
    ``host_ns`` int64[passes]: so long before that instant the host works on the pass; a GPU that is
    free by then waits for it (None: 0), and before it for nobody.
    ``kept`` bool[n]: False for drafts that are verified and rejected; None: all are kept.
    ``routed`` int64[n]: the rows whose routing tokens have; None: their own.
    ``served``: where tokens stand in their requests, which of them decode and which have logits;
    None: position and phase are the trace's, and all tokens have logits, but an encoder's. A
    scheduler that says it yields ``Schedule.serving(...)``, and says it of all its passes.
    ``given`` int64[passes, gpus]: slots of each MoE layer (of a pool over all layers, slots) that
    each GPU's experts have given up for a pass, below 0: taken; None: they keep what they have.
    """

    offsets: Ints
    rows: Ints
    gpu: Ints
    request: Ints
    phase: NDArray[np.uint8]
    not_before_ns: Ints | None = None
    kept: NDArray[np.bool_] | None = None
    served: Served | None = None
    host_ns: Ints | None = None
    routed: Ints | None = None
    given: Ints | None = None
    grows: ClassVar[bool] = False
    """Whether more passes may come to be known."""
    foreseen: ClassVar[bool] = False
    """Whether what comes next is known to nobody in the run, though it is here already."""

    @property
    def passes(self) -> int:
        """Number of forward passes."""
        return len(self.phase)

    @property
    def routing_rows(self) -> Ints:
        """The rows of the trace int64[n] whose routing tokens have."""
        return self.rows if self.routed is None else self.routed

    @classmethod
    def of(
        cls,
        requests: Requests,
        seats: Seats,
        trace: RoutingTrace,
        gpus: int,
        chunk: int | None = None,
    ) -> Schedule:
        """Order the tokens of ``requests`` by their ``seats``; slot i sits on GPU i modulo
        ``gpus``. A prefill pass holds at most ``chunk`` tokens of each GPU.
        """
        request, decode = requests.request, requests.decode_index >= 0
        step = seats.step[request] + np.maximum(requests.decode_index, 0)
        admission = np.where(decode, 0, seats.admission[request])
        slot = seats.slot[request]
        piece = np.zeros_like(step)
        encoded = trace.phase[requests.rows] == Phase.ENCODE
        piece[encoded] = -1
        if chunk is not None:
            prompt = np.flatnonzero(trace.phase[requests.rows] == Phase.PREFILL)
            group = np.stack([step, admission, slot % gpus])[:, prompt]
            piece[prompt] = _rank(group, slot[prompt]) // chunk
        order = np.lexsort((requests.rows, slot, piece, admission, decode, step))
        key = np.stack([step, decode, admission, piece])[:, order]
        begins = np.flatnonzero(np.any(np.diff(key, prepend=BEFORE), axis=0))
        rows = requests.rows[order]
        return cls(
            offsets=np.append(begins, len(rows)),
            rows=rows,
            gpu=slot[order] % gpus,
            request=request[order],
            phase=trace.phase[rows[begins]],
            kept=None if requests.kept is None else requests.kept[order],
            routed=None if requests.routed is None else requests.routed[order],
        )

    @classmethod
    def serving(
        cls,
        offsets: Ints,
        tokens: tuple[Ints, Ints, Ints],
        served: Served,
        not_before_ns: Ints | None = None,
        host_ns: Ints | None = None,
        kept: NDArray[np.bool_] | None = None,
        given: Ints | None = None,
    ) -> Schedule:
        """Passes of requests that a scheduler serves; ``tokens``: ``rows``, ``gpu`` and ``request``
        int64[n] each, those of a request in a pass together, in order of position, all decoding or
        none. Requests are numbered from 0 on, whatever rows of the trace they have. Whether a pass
        is mixed follows from ``served``.
        """
        phase = phases_of_passes(served.decodes, offsets)
        return cls(offsets, *tokens, phase, not_before_ns, kept, served, host_ns, given=given)

    def output_tokens(self) -> Ints:
        """Tokens int64[passes] that are not rejected drafts, prompts' among them."""
        if self.kept is None:
            return np.diff(self.offsets)
        return self._among(self.kept)

    def decode_tokens(self) -> Ints:
        """Tokens int64[passes] that are decoded, without rejected drafts."""
        if self.served is not None:
            return self._among(self._no_rejected(self.served.decodes))
        return np.where(self.phase == Phase.DECODE, self.output_tokens(), 0)

    def answer_tokens(self) -> Ints:
        """Tokens int64[passes] of answers that passes give: a request's first comes with its prompt
        where a scheduler says which tokens have logits, else those that are decoded count.
        """
        if self.served is None:
            return self.decode_tokens()
        return self._among(self._no_rejected(self.served.outputs))

    def _no_rejected(self, tokens: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return tokens if self.kept is None else tokens & self.kept

    def _among(self, tokens: NDArray[np.bool_]) -> Ints:
        """By pass, how many are True."""
        from moesim.workload.token_sums import count_tokens  # loads numba

        counts = np.zeros(self.passes, np.int64)
        offsets, counted = map(np.ascontiguousarray, (self.offsets, tokens))
        count_tokens(offsets, counted, counts)
        return counts

    def in_phase(self, phase: Phase, first: int, last: int) -> NDArray[np.bool_]:
        """Whether the tokens of passes first:last are of ``phase``; those that a scheduler serves
        decode where they give a token.
        """
        offsets = self.offsets[first : last + 1]
        if self.served is None:
            return np.repeat(self.phase[first:last] == phase, np.diff(offsets))
        own = self.served.at(slice(offsets[0], offsets[-1]))
        return own.outputs if phase == Phase.DECODE else np.asarray(own.phases() == phase)

    def tokens(self, gpus: int) -> Ints:
        """Tokens int64[passes, gpus]."""
        if gpus == 1:
            return np.diff(self.offsets)[:, None]
        return self._by_gpu(gpus, slice(None))

    def _by_gpu(self, gpus: int, which: slice | NDArray[np.bool_]) -> Ints:
        place = (self.pass_of_token() * gpus + self.gpu)[which]
        return np.bincount(place, minlength=self.passes * gpus).reshape(self.passes, gpus)

    def positions(self, trace: RoutingTrace) -> Ints:
        """Of each token int64[n] in its request."""
        if self.served is not None:
            return self.served.position
        return trace.position[self.rows].astype(np.int64)

    def token_phases(self) -> NDArray[np.uint8]:
        """Of each token uint8[n]."""
        if self.served is not None:
            return self.served.phases()
        return self.phase[self.pass_of_token()]

    def logits(self, gpus: int) -> Ints | None:
        """Tokens with logits int64[passes, gpus], where a scheduler says it."""
        if self.served is None:
            return None
        if gpus == 1:
            return self._among(self.served.outputs)[:, None]
        return self._by_gpu(gpus, self.served.outputs)

    def first(self, passes: int) -> Schedule:
        """The schedule's first ``passes`` forward passes."""
        return self.between(0, min(passes, self.passes))

    def between(self, first: int, last: int) -> Schedule:
        """A schedule of passes first:last."""
        offsets = self.offsets[first : last + 1]
        tokens = slice(offsets[0], offsets[-1])
        return Schedule(
            offsets - offsets[0],
            self.rows[tokens],
            self.gpu[tokens],
            self.request[tokens],
            self.phase[first:last],
            None if self.not_before_ns is None else self.not_before_ns[first:last],
            None if self.kept is None else self.kept[tokens],
            None if self.served is None else self.served.at(tokens),
            None if self.host_ns is None else self.host_ns[first:last],
            None if self.routed is None else self.routed[tokens],
            None if self.given is None else self.given[first:last],
        )

    def more(self) -> bool:
        """Whether more passes have come to be known: none, of a schedule of the whole run."""
        return False

    def earliest_starts(self, first: int, last: int) -> Ints:
        """The instants int64[last - first] in ns before which passes first:last may not start."""
        if self.not_before_ns is None:
            return np.zeros(last - first, np.int64)
        return self.not_before_ns[first:last]

    def begins(self, first: int, last: int) -> Ints:
        """The instants int64[last - first] from which GPUs that are free wait for the host before
        passes first:last: those of ``earliest_starts``, less what the host takes.
        """
        earliest = self.earliest_starts(first, last)
        return earliest if self.host_ns is None else earliest - self.host_ns[first:last]

    def live_requests(self) -> Ints:
        """Requests int64[passes] that have a token in each pass."""
        return self._among(last_of_requests(self.pass_of_token(), self.request))

    def pass_of_token(self) -> Ints:
        """Index int64[n] of each token's pass."""
        return np.repeat(np.arange(self.passes), np.diff(self.offsets))


@dataclass(frozen=True, eq=False)
class AttentionSums:
    """What attention is priced on: int64[passes, gpus] each, for one sliding window.

    ``decoding``: the part of ``tokens``, ``context_tokens`` and ``kv_tokens`` that tokens have
    which decode in mixed passes, 0 in others; empty where no pass is mixed. ``longest``: the most
    keys that a token which decodes attends to, 0 where none does.
    """

    tokens: Ints
    context_tokens: Ints
    kv_tokens: Ints
    cached_tokens: Ints
    longest: Ints
    decoding: tuple[Ints, ...] = ()

    @classmethod
    def of(
        cls, schedule: Schedule, trace: RoutingTrace, gpus: int, window: int | None
    ) -> AttentionSums:
        """Sums over the tokens of each (pass, GPU).

        A token at position p attends to min(p + 1, window) keys; an encoder token to all tokens of
        its request. ``kv_tokens``: cached tokens read, by drafts of a request together;
        ``cached_tokens``: what the KV cache holds, of each request from its first to its last pass.
        """
        from moesim.runtime.compiled import in_python  # loads numba
        from moesim.workload.token_sums import ANY, FEW, SUMS, sum_tokens

        mixed = schedule.phase == PassPhase.MIXED
        sums = np.zeros((SUMS, schedule.passes + 1, gpus), np.int64)
        held = np.zeros((3, int(schedule.request.max(initial=-1)) + 1), np.int64)
        of_tokens = schedule.gpu, schedule.request, schedule.token_phases()
        given = (schedule.offsets, *of_tokens, schedule.positions(trace), mixed)
        arrays: list[Any] = [np.ascontiguousarray(one) for one in given]
        arrays += [ANY if window is None else window, sums, held]
        in_python(sum_tokens, few=len(schedule.request) <= FEW)(*arrays)
        tokens, context_tokens, kv_tokens, *decoding, longest, cached = sums[:, :-1]
        apart = tuple(decoding) if mixed.any() else ()
        return cls(tokens, context_tokens, kv_tokens, cached, longest, apart)

    def of_groups(self, size: int) -> AttentionSums:
        """Every GPU with the sums of its group: ``size`` neighbours."""
        if size == 1:
            return self
        parts = (self.tokens, self.context_tokens, self.kv_tokens, self.cached_tokens)
        tokens, context_tokens, kv_tokens, cached = (over_groups(part, size) for part in parts)
        decoding = tuple(over_groups(part, size) for part in self.decoding)
        longest = over_groups(self.longest, size, np.max)
        return AttentionSums(tokens, context_tokens, kv_tokens, cached, longest, decoding)


def over_groups(values: Ints, size: int, of: Callable[..., Any] = np.sum) -> Ints:
    """The sums of ``values`` int64[passes, gpus] over each group of ``size`` neighbours (or what
    else is made ``of`` them), for every one of them.
    """
    if size == 1:
        return values
    return np.repeat(of(values.reshape(len(values), -1, size), axis=2), size, axis=1)


def _rank(group: Ints, slot: Ints) -> Ints:
    """Place int64[n] of each token in its ``group`` int64[keys, n], by ``slot``, then as given."""
    order = np.lexsort((slot, *group))
    begins = np.flatnonzero(np.any(np.diff(group[:, order], prepend=-1), axis=0))
    rank = np.empty(len(slot), np.int64)
    rank[order] = np.arange(len(slot)) - np.repeat(begins, np.diff(np.append(begins, len(slot))))
    return rank


def held_by_requests(schedule: Schedule, gpus: int, ends: Ints, held: Ints) -> Ints:
    """Cached tokens int64[passes, gpus]: ``held`` by each request after its last token in a pass,
    ``ends``, until its next pass, or the end of its last.
    """
    begin, request, gpu = (
        values[ends] for values in (schedule.pass_of_token(), schedule.request, schedule.gpu)
    )
    order = np.lexsort((begin, request))
    until = begin + 1
    again = np.diff(request[order]) == 0
    until[order[:-1][again]] = begin[order[1:][again]]
    changes = np.zeros((schedule.passes + 1, gpus), np.int64)
    np.add.at(changes, (begin, gpu), held)
    np.subtract.at(changes, (until, gpu), held)
    cached: Ints = changes.cumsum(axis=0)[:-1]
    return cached


def last_of_requests(token_pass: Ints, request: Ints) -> NDArray[np.bool_]:
    """True at the last token of each request in each pass."""
    changes = (token_pass[1:] != token_pass[:-1]) | (request[1:] != request[:-1])
    return np.append(changes, True)


def requests_of_steps(schedule: Schedule, gpus: int) -> Ints:
    """Requests int64[passes, gpus] of each decode step, 0 of other passes; of passes that a
    scheduler says, those that have a token of them.
    """
    token_pass = schedule.pass_of_token()
    ones = last_of_requests(token_pass, schedule.request)
    if schedule.served is None:
        ones &= schedule.phase[token_pass] == Phase.DECODE
    else:
        ones &= schedule.served.outputs
    place = (token_pass * gpus + schedule.gpu)[ones]
    return np.bincount(place, minlength=schedule.passes * gpus).reshape(schedule.passes, gpus)
