"""The bytes of every forward pass of a run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.experiment.building.layer_rows import rows_of_run
from moesim.hardware import SoftwareProfile
from moesim.memory.footprint import Footprint, Residence
from moesim.memory.live import Widths, live_parts
from moesim.memory.staging import STAGING_BUFFERS
from moesim.trace.routing import Phase
from moesim.workload.schedule import AttentionSums
from moesim.workload.sources import SourceSums


def footprint_of(case: Case, residences: tuple[Residence, ...]) -> Footprint:
    """Bytes of every pass of ``case``."""
    kv, of_host = np.zeros((2, case.schedule.passes, case.gpus), np.int64)
    sums: dict[int | None, AttentionSums] = {}
    for layer in case.model.layers:
        window = layer.attention.window
        if window not in sums:
            sums[window] = AttentionSums.of(case.schedule, case.trace, case.gpus, window)
        cached = sums[window].of_groups(case.group).cached_tokens
        kv += cached * layer.gpu_kv_bytes_per_token
        of_host += cached * (layer.attention.kv_bytes_per_token - layer.gpu_kv_bytes_per_token)
    if source_bytes := case.model.source_bytes_per_token:
        sources = SourceSums.of(case.schedule, case.trace, case.gpus)
        kv += sources.of_groups(case.group).cached_tokens * source_bytes
    of_gpus = next(iter(sums.values()))
    tokens, present = of_gpus.tokens, of_gpus.of_groups(case.group).tokens
    logits = logits_of(case.software, tokens, case.schedule.phase)
    live = live_parts(widths_of(case), rows_of_run(case, tokens), present, logits)
    return Footprint.of(
        case.model, residences, kv_bytes=kv, live=live, pinned=pins(case), nodes=case.nodes,
        host_kv_bytes=int(of_host.max(initial=0)),
    )  # fmt: skip


def widths_of(case: Case) -> Widths:
    """Bytes of rows and logits under the case's kernels and software."""
    fused = case.kernels in ("grouped", "block_sparse")
    return Widths.of(case.model, case.software.logit_bytes, fused=fused)


def logits_of(software: SoftwareProfile, tokens: Ints, phase: NDArray[np.uint8]) -> Ints:
    """Of ``tokens`` int64[passes, gpus] in passes of a ``phase`` each, those that have logits."""
    of_pass = phase[:, None]
    of_prompt = tokens if software.logits == "all" else np.minimum(tokens, 1)
    with_head = np.where(of_pass == Phase.DECODE, tokens, of_prompt)
    return np.where(of_pass == Phase.ENCODE, 0, with_head)


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
