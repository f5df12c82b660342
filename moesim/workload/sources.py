"""What the decoder's layers attend to beside their own tokens: the encoded source of a request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moesim.trace.routing import Phase, RoutingTrace
from moesim.workload.schedule import Ints, Schedule, held_by_requests, last_of_requests


def source_tokens(trace: RoutingTrace) -> Ints:
    """Encoder tokens int64[requests] of every request of ``trace``."""
    begins, encoded = trace.request_offsets()[:-1], trace.phase == Phase.ENCODE
    return np.add.reduceat(encoded.astype(np.int64), begins)


def longest_source(schedule: Schedule, trace: RoutingTrace) -> int:
    """Encoder tokens of the request in ``schedule`` that has most."""
    return int(source_tokens(trace)[_requests_of(schedule, trace)].max())


def _requests_of(schedule: Schedule, trace: RoutingTrace) -> Ints:
    """The request of ``trace`` int64[n] of each token of ``schedule``."""
    found: Ints = np.searchsorted(trace.request_offsets(), schedule.rows, side="right") - 1
    return found


@dataclass(frozen=True, eq=False)
class SourceSums:
    """What cross attention is priced on: source tokens int64[passes, gpus] each."""

    context_tokens: Ints
    kv_tokens: Ints
    projected_tokens: Ints
    cached_tokens: Ints

    @classmethod
    def of(cls, schedule: Schedule, trace: RoutingTrace, gpus: int) -> SourceSums:
        """Sums over the decoder tokens of each (pass, GPU).

        Each attends to its whole source, and a request reads that once a pass. It is projected with
        the first decoder token that the request has in ``trace``. ``cached_tokens``: what is held
        of each source from the first pass with a decoder token to the request's last.
        """
        sources, offsets = source_tokens(trace), trace.request_offsets()
        request = _requests_of(schedule, trace)
        token_pass = schedule.pass_of_token()
        decodes = schedule.phase[token_pass] != Phase.ENCODE
        length = np.where(decodes, sources[request], 0)
        first = schedule.rows == (offsets[:-1] + sources)[request]
        last = last_of_requests(token_pass, schedule.request)
        place = token_pass * gpus + schedule.gpu

        def total(values: Ints) -> Ints:
            sums = np.bincount(place, values.astype(np.float64), schedule.passes * gpus)
            return sums.astype(np.int64).reshape(schedule.passes, gpus)

        cached = held_by_requests(schedule, gpus, np.flatnonzero(last), length[last])
        return cls(
            total(length),
            total(np.where(last, length, 0)),
            total(np.where(first, length, 0)),
            cached,
        )

    def of_groups(self, size: int) -> SourceSums:
        """Every GPU with the sums of its group: ``size`` neighbours."""
        if size == 1:
            return self

        def total(values: Ints) -> Ints:
            sums = values.reshape(len(values), -1, size).sum(axis=2)
            return np.repeat(sums, size, axis=1)

        parts = (self.context_tokens, self.kv_tokens, self.projected_tokens, self.cached_tokens)
        return SourceSums(*map(total, parts))
