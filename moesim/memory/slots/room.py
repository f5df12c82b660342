"""Room in bytes, of a pool whose experts differ in these, and which policies choose there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from moesim.memory.activations import Ints
from moesim.memory.policy import THIS_LAYER, THIS_PASS, CachePolicy
from moesim.memory.policy_functions import ARGUMENTS
from moesim.memory.policy_reads import reads_of


class Room(NamedTuple):
    """The ``limit`` of a pool in bytes, and the bytes of each of its experts: ``sizes``
    int64[experts].
    """

    limit: Any
    sizes: Any

    def first_of(self, experts: Ints) -> Ints:
        """Those of ``experts``, in their order, up to the first that does not fit."""
        return experts[: np.searchsorted(np.cumsum(self.sizes[experts]), self.limit, side="right")]


def goes_by_bytes(policy: type[CachePolicy]) -> bool:
    """Whether ``policy`` can be asked several times for one activation: it goes by what the cache
    counts of each expert alone, as LRU and LFU, and does not look ahead.
    """
    reads, names = reads_of(policy), [*ARGUMENTS, "start", "start_request", "shared_buffers"]
    own = {name for name in names if getattr(policy, name) is not getattr(CachePolicy, name)}
    of_all = {THIS_PASS, THIS_LAYER} & set(reads.rows or ())
    return own == {"key"} and reads.own and not of_all and not policy.looks_ahead
