"""Decode steps at a context that is longer than the trace's requests."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from moesim.trace.routing import Phase, RoutingTrace


@lru_cache(maxsize=4)
def at_context(trace: RoutingTrace, tokens: int) -> RoutingTrace:
    """``trace`` whose decode tokens have at least ``tokens`` in their caches, themselves among
    them.

    The same object for the same trace: what points of a sweep share goes by it.
    """
    decode = trace.phase == Phase.DECODE
    longer = np.where(decode, np.maximum(trace.position, tokens - 1), trace.position)
    return replace(trace, position=longer.astype(np.int32))
