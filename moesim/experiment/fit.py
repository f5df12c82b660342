"""What fits: the largest batch, and the largest expert capacity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from moesim.experiment.build import Built, build, footprint_of, mask_capacity
from moesim.experiment.schema import Experiment
from moesim.memory.footprint import Footprint
from moesim.workload.batching.base import LARGEST_BATCH


def largest_fit(experiment: Experiment) -> dict[str, Any]:
    """Answers for ``experiment``: ``fits`` as it stands and ``reason`` if not; ``largest_batch``
    with every request at the trace's longest context; ``largest_slots`` a layer (None where not
    even one fits) and its ``capacity_bytes``; ``peak_memory_bytes`` and ``limit_bytes`` of a
    GPU.
    """
    built = build(experiment)
    slots = _largest(lambda n: _with_slots(built, n), max(r.local for r in built.residences), built)
    batch = _largest(lambda n: _with_batch(built, n), LARGEST_BATCH, built)
    return {
        "fits": built.out_of_memory is None,
        "reason": built.out_of_memory,
        "peak_memory_bytes": int(built.footprint.total.max()),
        "limit_bytes": built.limit_bytes,
        "largest_batch": batch,
        "longest_context_tokens": longest_context(built),
        "largest_slots": slots,
        "local_experts": max(r.local for r in built.residences),
        "slots_per_layer": min(r.slots for r in built.residences),
        "capacity_bytes": slots * _slot_bytes(built) if slots else None,
    }


def longest_context(built: Built) -> int:
    """Tokens in the KV cache of the longest request of the run."""
    return int(built.case.trace.position[built.case.schedule.rows].max()) + 1


def _slot_bytes(built: Built) -> int:
    return sum(layer.moe.expert.bytes for layer in built.case.model.moe_layers if layer.moe)


def _largest(footprint: Any, most: int, built: Built) -> int | None:
    """The largest number in 1..most whose footprint fits (it grows with the number), or None."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if footprint(middle).overflow(built.limit_bytes, built.hardware.host_memory_bytes) is None:
            low = middle
        else:
            high = middle - 1
    return low or None


def _with_slots(built: Built, slots: int) -> Footprint:
    residences = tuple(replace(r, slots=min(slots, r.local)) for r in built.residences)
    return footprint_of(replace(built.case, slots=tuple(r.slots for r in residences)), residences)


def _with_batch(built: Built, batch: int) -> Footprint:
    """A decode step of ``batch`` requests, each at the longest context."""
    case, context = built.case, longest_context(built)
    requests = np.array([[len(range(gpu, batch, case.gpus)) for gpu in range(case.gpus)]])
    kv = sum(
        min(context, layer.attention.window or context) * layer.attention.kv_bytes_per_token
        for layer in case.model.layers
    )
    return Footprint.of(
        case.model,
        built.residences,
        tokens=requests,
        requests=requests,
        kv_bytes=requests * kv,
        capacity=mask_capacity(case, requests),
    )
