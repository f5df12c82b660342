"""The bytes of every forward pass of a run."""

from __future__ import annotations

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.memory.footprint import Footprint, Residence
from moesim.memory.staging import STAGING_BUFFERS
from moesim.trace.routing import Phase
from moesim.workload.schedule import AttentionSums


def footprint_of(case: Case, residences: tuple[Residence, ...]) -> Footprint:
    """Bytes of every pass of ``case``."""
    kv = np.zeros((case.schedule.passes, case.gpus), np.int64)
    sums: dict[int | None, AttentionSums] = {}
    for layer in case.model.layers:
        window = layer.attention.window
        if window not in sums:
            sums[window] = AttentionSums.of(case.schedule, case.trace, case.gpus, window)
        kv += sums[window].cached_tokens * layer.attention.kv_bytes_per_token
    tokens = next(iter(sums.values())).tokens
    prompt = case.schedule.phase != Phase.DECODE
    requests = np.where(prompt[:, None], np.minimum(tokens, 1), tokens)
    return Footprint.of(
        case.model,
        residences,
        tokens=tokens,
        requests=requests,
        kv_bytes=kv,
        capacity=mask_capacity(case, tokens),
        pinned=pins(case),
    )


def pins(case: Case) -> bool:
    """Whether offloaded experts are in pinned host memory, which a kernel needs that reads them."""
    return case.software.pinned or case.miss.uses_link


def residences_of(case: Case) -> tuple[Residence, ...]:
    """The experts of each GPU."""
    buffers = case.policy.shared_buffers()
    return tuple(
        Residence(
            len(case.local_experts(gpu)),
            tuple(case.slots[gpu].tolist()),
            buffers,
            staging_of(case, gpu),
        )
        for gpu in range(case.gpus)
    )


def staging_of(case: Case, gpu: int) -> int:
    """Experts that the staging buffers of ``gpu`` hold, if it has not all of its own."""
    if not case.bypassed.any():
        return 0
    layer = len(case.local_experts(gpu)) if case.prefill == "stream" else 1
    return STAGING_BUFFERS * layer


def mask_capacity(case: Case, tokens: Ints) -> Ints | None:
    """Rows per sender and expert int64[passes] of a gating with masks, else None."""
    if not case.gating.masks:
        return None
    nothing = np.zeros((len(tokens), 1, case.gpus, 1), np.int64)
    return case.gating.route(nothing, tokens).capacity
