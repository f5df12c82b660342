"""What was read from storage."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Case
from moesim.engine.counts import Counts
from moesim.hardware.charge import WAITING_FOR_STORAGE

MS = 1_000_000
STORAGE_KEYS = (
    "host_hits", "host_hit_ratio", "bytes_storage", "bytes_storage_ahead", "bytes_storage_unused",
    "storage_wait_ms",
)  # fmt: skip


def storage_numbers(
    case: Case, counts: Counts, span: slice, charges: dict[str, int]
) -> dict[str, Any]:
    """Of rows ``span``: what misses wanted from host memory and it had, as a number and as a share
    (None where there is none beside the GPU's); the bytes that were read, those of them that were
    read ahead for prefetches, and of these those of prefetches that nobody used; the wait for them,
    summed over GPUs, by what was ``charged``. Nothing where host memory holds all experts.
    """
    if case.host_cache is None:
        return {}
    hits, size = int(counts.host_hits[span].sum()), counts.stored_bytes(case)
    reads, ahead, used = (
        one[span].sum(axis=(0, 2))
        for one in (counts.storage_reads, counts.storage_reads_ahead, counts.storage_reads_used)
    )
    needs, read = hits + int((reads - ahead).sum()), reads * size
    if case.variants is not None:
        read = counts.storage_bytes[span]
    return {
        "host_hits": hits,
        "host_hit_ratio": hits / needs if needs and case.host_cache.slots else None,
        "bytes_storage": int(np.sum(read)),
        "bytes_storage_ahead": int(np.sum(ahead * size)),
        "bytes_storage_unused": int(np.sum((ahead - used) * size)),
        "storage_wait_ms": charges[WAITING_FOR_STORAGE] / MS,
    }
