"""Stretch a trace to a model with more layers and experts, where no trace of it exists.

``python scripts/stand_in_trace.py TRACE MODEL OUT``: layer by layer the nearest recorded layer by
depth. The token's choice of rank r becomes an expert of the r-th share of the model's experts, so
how often a rank's expert comes again is the recording's; that ranks have experts of their own is
invented, and so is every number of distinct experts. A model with twice the recorded choices gets
those of the next request too. What a run on it shows is that model's sizes with another's locality.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np

from moesim.model import load_model
from moesim.trace import RoutingTrace, read_trace
from moesim.trace.parquet import write_trace


def stretched(trace: RoutingTrace, layers: int, experts: int, top_k: int) -> RoutingTrace:
    """``trace`` with ``layers`` MoE layers, top-``top_k`` of ``experts``."""
    streams, shares = top_k // trace.top_k, experts // trace.experts
    if streams not in (1, 2) or top_k % trace.top_k or shares < trace.top_k:
        sys.exit("a model needs the choices of the trace or twice as many, and enough experts")
    rows = _rows(trace, streams)
    source = trace.expert_ids[:, np.arange(layers) * trace.moe_layers // layers].astype(np.int64)
    ranks = np.arange(trace.top_k) * trace.experts
    first = source[rows[0]]
    chosen = [first + ranks]
    if streams == 2:  # noqa: PLR2004
        second = (source[rows[1]] + trace.experts // 2) % trace.experts
        second = np.where(second == first, (second + 1) % trace.experts, second)
        chosen.append(second + ranks)
    names = tuple(range(layers))
    return RoutingTrace(
        expert_ids=np.ascontiguousarray(np.concatenate(chosen, axis=2).astype(np.uint16)),
        request_id=trace.request_id[rows[0]],
        position=trace.position[rows[0]],
        phase=trace.phase[rows[0]],
        gate_weights=None,
        predicted_ids=None,
        metadata=replace(
            trace.metadata,
            experts=experts,
            top_k=top_k,
            moe_layer_ids=names,
            notes=f"no recording: {trace.metadata.model} stretched by scripts/stand_in_trace.py",
        ),
    )


def _rows(trace: RoutingTrace, streams: int) -> list[np.ndarray]:
    """Rows of each request; of two streams also those of the next one, cut to the shorter."""
    spans = list(pairwise(trace.request_offsets().tolist()))
    if streams == 1:
        return [np.arange(trace.tokens)]
    both = list(zip(spans, [*spans[1:], spans[0]], strict=True))
    sizes = [min(a[1] - a[0], b[1] - b[0]) for a, b in both]
    return [
        np.concatenate([np.arange(s[0], s[0] + n) for s, n in zip(starts, sizes, strict=True)])
        for starts in zip(*both, strict=True)
    ]


def main() -> None:
    """Read, stretch, write."""
    if len(sys.argv) != 4:  # noqa: PLR2004
        sys.exit(__doc__)
    source, name, target = sys.argv[1:]
    model = load_model(name)
    moe = model.moe_layers[0].moe
    assert moe is not None, "a model with experts"
    trace = stretched(read_trace(source), len(model.moe_layers), moe.experts, moe.top_k)
    write_trace(trace, target)
    print(f"{target}: {trace.requests} requests, {trace.tokens} tokens")


if __name__ == "__main__":
    main()
