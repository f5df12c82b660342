"""What may be wrong with the content of a trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import NO_EXPERT, Phase, RoutingTrace

CHUNK_TOKENS = 4096
"""Rows looked at together: the temporaries stay small beside the trace, and in the CPU's cache."""

_ONE_BITS = np.uint16(0x3C00)  # float16 1.0; the positive float16 are in the order of their bits
_STAGE = np.array([1, 2, 0], dtype=np.int8)  # by Phase: encode, then prefill, then decode


@dataclass(frozen=True)
class Finding:
    """One kind of mistake: how often, where first, and whether a replay refuses the trace."""

    column: str
    what: str
    count: int
    fatal: bool = True


def findings(trace: RoutingTrace) -> list[Finding]:
    """Everything that is wrong with ``trace``; empty if it is clean.

    Ids must be below ``experts`` or NO_EXPERT, and differ within a token and layer; a request's
    rows must be together, encode before prefill before decode, with positions from 0 rising by
    one (a gap is a finding that does not stop a replay); weights must be finite and in 0 .. 1.
    """
    found = [
        *_requests(trace),
        *_phases(trace),
        *_positions(trace),
        *_ids_in_range("expert_ids", trace.expert_ids, trace),
        *_duplicates(trace),
    ]
    if trace.gate_weights is not None:
        found += _weights(trace.gate_weights, trace)
    if trace.predicted_ids is not None:
        found += _ids_in_range("predicted_ids", trace.predicted_ids, trace)
    return found


def _requests(trace: RoutingTrace) -> Iterator[Finding]:
    runs = trace.request_id[trace.request_offsets()[:-1]]
    ids, first, counts = np.unique(runs, return_index=True, return_counts=True)
    torn = ids[counts > 1]
    if len(torn):
        request = int(torn[np.argmin(first[counts > 1])])
        row = int(np.flatnonzero(trace.request_id == request)[0])
        yield Finding(
            "request_id",
            f"torn apart (request {request}, from row {row}): its rows must be together, sort by"
            f" request and position; {len(torn)} such requests in all",
            len(torn),
        )


def _phases(trace: RoutingTrace) -> Iterator[Finding]:
    unknown = trace.phase > max(Phase)
    if unknown.any():
        row = int(np.argmax(unknown))
        yield Finding(
            "phase",
            f"phase {trace.phase[row]} at {_place(trace, row)}: must be 0 (prefill), 1 (decode)"
            f" or 2 (encode); {_others(unknown)}",
            int(unknown.sum()),
        )
        return
    backwards = np.zeros(trace.tokens, dtype=bool)
    backwards[1:] = np.diff(_STAGE[trace.phase]) < 0
    backwards[trace.request_offsets()[:-1]] = False
    if backwards.any():
        row = int(np.argmax(backwards))
        yield Finding(
            "phase",
            f"{_phase_name(trace, row)} after {_phase_name(trace, row - 1)} at"
            f" {_place(trace, row)}: must go encode, prefill, decode; {_others(backwards)}",
            int(backwards.sum()),
        )


def _positions(trace: RoutingTrace) -> Iterator[Finding]:
    position = trace.position.astype(np.int64)
    negative = position < 0
    step = np.ones(trace.tokens, dtype=np.int64)
    step[1:] = np.diff(position)
    step[trace.request_offsets()[:-1]] = 1
    # the decoder of an encoder-decoder model counts its own positions
    encoder = trace.phase == Phase.ENCODE
    step[1:][encoder[1:] != encoder[:-1]] = 1
    for bad, rule, fatal in (
        (negative, "must be 0 or more", True),
        (step < 1, "must be larger than the one before in its request", True),
        (step > 1, "leaves a gap after the one before in its request", False),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            what = f"position {position[row]} at {_place(trace, row)} {rule}; {_others(bad)}"
            yield Finding("position", what, int(bad.sum()), fatal)


def _ids_in_range(name: str, ids: NDArray[np.uint16], trace: RoutingTrace) -> Iterator[Finding]:
    count, first = 0, None
    for start, chunk in _chunks(ids):
        # NO_EXPERT + 1 wraps around to 0 and passes
        bad = (chunk + np.uint16(1)) > trace.experts
        count, first = _tally(bad, start, count, first)
    if first is not None:
        row, layer = first[0], first[-2]
        yield Finding(
            name,
            f"expert id {ids[first]} at {_place(trace, row)}, MoE layer {layer}: must be"
            f" from 0 to {trace.experts - 1}, or {NO_EXPERT} for none; {count} such in all",
            count,
        )


def _duplicates(trace: RoutingTrace) -> Iterator[Finding]:
    count, first = 0, None
    for start, chunk in _chunks(trace.expert_ids):
        slots = np.ascontiguousarray(np.moveaxis(chunk, 2, 0))
        twice = np.zeros(chunk.shape[:2], dtype=bool)
        for one, other in combinations(range(trace.top_k), 2):
            twice |= (slots[one] == slots[other]) & (slots[one] != NO_EXPERT)
        count, first = _tally(twice, start, count, first)
    if first is not None:
        row, layer = first
        yield Finding(
            "expert_ids",
            f"experts {trace.expert_ids[row, layer].tolist()} at {_place(trace, row)}, MoE layer"
            f" {layer}: the experts of a token must differ; {count} such in all",
            count,
        )


def _weights(weights: NDArray[np.float16], trace: RoutingTrace) -> Iterator[Finding]:
    count, first = 0, None
    for start, chunk in _chunks(weights):
        bits = chunk.view(np.uint16)
        bad = (bits > _ONE_BITS) & (bits != np.uint16(0x8000))  # -0.0 is 0
        count, first = _tally(bad, start, count, first)
    if first is not None:
        row, layer, slot = first
        yield Finding(
            "gate_weights",
            f"weight {weights[row, layer, slot]} at {_place(trace, row)}, MoE layer {layer}: must"
            f" be a number from 0 to 1, without a scale (no logit); {count} such in all; or leave"
            " all weights out",
            count,
        )


def _chunks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    for start in range(0, len(array), CHUNK_TOKENS):
        yield start, array[start : start + CHUNK_TOKENS]


def _tally(
    bad: NDArray[np.bool_], start: int, count: int, first: tuple[int, ...] | None
) -> tuple[int, tuple[int, ...] | None]:
    if not bad.any():
        return count, first
    if first is None:
        row, *rest = (int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        first = (start + row, *rest)
    return count + int(bad.sum()), first


def _place(trace: RoutingTrace, row: int) -> str:
    return f"row {row} (request {trace.request_id[row]})"


def _phase_name(trace: RoutingTrace, row: int) -> str:
    return Phase(trace.phase[row]).name.lower()


def _others(bad: NDArray[np.bool_]) -> str:
    return f"{int(bad.sum())} such in all"
