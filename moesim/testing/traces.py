"""Small traces and active experts to test components with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moesim.memory.activations import ActiveExperts
from moesim.trace.routing import Phase, RoutingTrace, TraceMetadata


def toy_trace(
    lengths: Sequence[tuple[int, int]], *, experts: int = 4, top_k: int = 1, first: int = 0
) -> RoutingTrace:
    """One request for each (prompt, answer) length in tokens; one MoE layer, experts in turn.

    Request ids are 10, 11, ...; a request without a prompt starts at position ``first``.
    """
    request = [10 + number for number, length in enumerate(lengths) for _ in range(sum(length))]
    phase: list[Phase] = []
    position: list[int] = []
    for prompt, answer in lengths:
        phase += [Phase.PREFILL] * prompt + [Phase.DECODE] * answer
        begin = 0 if prompt else first
        position += range(begin, begin + prompt + answer)
    ids = (np.arange(len(request))[:, None] + np.arange(top_k)) % experts
    return RoutingTrace(
        expert_ids=np.ascontiguousarray(ids[:, None, :].astype(np.uint16)),
        request_id=np.array(request, np.int32),
        position=np.array(position, np.int32),
        phase=np.array(phase, np.uint8),
        gate_weights=None,
        predicted_ids=None,
        metadata=TraceMetadata(None, experts, top_k, (0,), "toy", "toy", "none"),
    )


def active_experts_of(steps: Sequence[Sequence[int]]) -> ActiveExperts:
    """The active experts of ``steps``, each the experts of one step in any order."""
    distinct = [sorted(set(step)) for step in steps]
    offsets = np.concatenate(([0], np.cumsum([len(step) for step in distinct])))
    experts = [expert for step in distinct for expert in step]
    return ActiveExperts(offsets.astype(np.int64), np.array(experts, np.int64))
