"""Parts of a trace."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.trace.routing import RoutingTrace


def slice_trace(
    trace: RoutingTrace,
    requests: slice = slice(None),
    tokens: int | None = None,
    layers: slice = slice(None),
) -> RoutingTrace:
    """The chosen requests (by their order in the file) and MoE layers.

    ``tokens`` keeps the first ones of each request. Request ids and positions stay. Raises
    InputError if nothing is left.
    """
    rows = _rows(trace, requests, tokens)
    columns = np.arange(trace.moe_layers)[layers]
    if not len(rows) or not len(columns):
        raise InputError(
            f"the slice is empty: the trace has {counted(trace.requests, 'request')} and"
            f" {counted(trace.moe_layers, 'MoE layer')}; choose some of them"
        )
    metadata = trace.metadata.of_layers(columns.tolist())
    if metadata.losses is not None and len(rows) < trace.tokens:
        metadata = replace(metadata, losses=replace(metadata.losses, whole=False))
    weights, predicted = trace.gate_weights, trace.predicted_ids
    return RoutingTrace(
        expert_ids=np.ascontiguousarray(trace.expert_ids[rows][:, columns]),
        request_id=trace.request_id[rows],
        position=trace.position[rows],
        phase=trace.phase[rows],
        gate_weights=None if weights is None else np.ascontiguousarray(weights[rows][:, columns]),
        predicted_ids=None
        if predicted is None
        else np.ascontiguousarray(predicted[rows][..., columns, :]),
        metadata=metadata,
    )


def _rows(trace: RoutingTrace, requests: slice, tokens: int | None) -> NDArray[np.int64]:
    if tokens is not None and tokens < 1:
        raise InputError(f"tokens = {tokens}: must be 1 or more")
    offsets = trace.request_offsets()
    chosen = [
        np.arange(start, end if tokens is None else min(end, start + tokens), dtype=np.int64)
        for start, end in list(pairwise(offsets))[requests]
    ]
    return np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)


def parse_slice(text: str, option: str) -> slice:
    """``3``, ``0:10``, ``:10``, ``2:160:8`` as a slice; an InputError names ``option``."""
    parts = text.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    negative = any(number is not None and number < 0 for number in numbers)
    if not 1 <= len(numbers) <= 3 or negative or numbers[2:] == [0] or numbers == [None]:  # noqa: PLR2004
        raise InputError(f"{option} '{text}': must be FIRST:END or FIRST:END:STEP, as in 0:10")
    if len(numbers) == 1:
        first = numbers[0] or 0
        return slice(first, first + 1)
    return slice(*numbers)
