"""What was read from storage."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.engine.case import Case
from moesim.engine.counts import Counts
from moesim.hardware.charge import WAITING_FOR_STORAGE

MS = 1_000_000
STORAGE_KEYS = ("host_hits", "host_hit_ratio", "bytes_storage", "storage_wait_ms")


def storage_numbers(
    case: Case, counts: Counts, span: slice, charges: dict[str, int]
) -> dict[str, Any]:
    """Of rows ``span``: the needs of host memory that it had, as a number and as a share (None
    where there is none beside the GPU's); the bytes that were read; the wait for them, summed over
    GPUs, by what was ``charged``. Nothing where host memory holds all experts.
    """
    if case.host_cache is None:
        return {}
    hits, by_layer = int(counts.host_hits[span].sum()), counts.storage_reads[span].sum(axis=(0, 2))
    needs = hits + int(by_layer.sum())
    return {
        "host_hits": hits,
        "host_hit_ratio": hits / needs if needs and case.host_cache.slots else None,
        "bytes_storage": int(np.sum(by_layer * counts.stored_bytes(case))),
        "storage_wait_ms": charges[WAITING_FOR_STORAGE] / MS,
    }
