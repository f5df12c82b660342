"""Where a published number is outside the range: which mechanism is missing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LEDGER = (
    "the ledger has no attention scores, no integers of positions, and nothing that an allocator "
    "keeps beyond what lives"
)
MISSING: Mapping[str, str] = MappingProxyType({
    "lm.same_batch_gain": (
        "at half the batch, where launches decide, it is inside; time that grows with the batch "
        "and is the same under both gatings, beyond kernels and links, is not modelled"
    ),
    "lm.static_memory_gib": (
        "what an allocator and the framework hold beside tensors is not modelled"
    ),
    "lm.activation_gib.static": LEDGER,
    "lm.activation_gib.dynamic": LEDGER,
    "lm.balancing_gain_percent": (
        "the study's time that balance does not move is longer than kernels and launches here"
    ),
})  # fmt: skip
