"""Where a published number is outside the range: which mechanism is missing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LEDGER = "what calls hold for a moment, and what an allocator keeps of it, is not in the ledger"
LAYER = (
    "the study's encoder takes 50 to 80 ms more a MoE layer under dynamic gating than launches, "
    "links and products, and its sentences may be longer"
)
LANGUAGE = "how many experts a language uses over many steps is not stated (language_experts)"
MISSING: Mapping[str, str] = MappingProxyType({
    "lm.same_batch_gain": (
        "at half the batch, where launches decide, it is inside; time that grows with the batch "
        "and is the same under both gatings, beyond kernels and links, is not modelled"
    ),
    "lm.static_memory_gib": (
        "weights alone; what the framework holds beside them is in rows of its own"
    ),
    "lm.activation_gib.static": LEDGER,
    "lm.activation_gib.dynamic": LEDGER,
    **dict.fromkeys(
        (
            "mt_encoder.dynamic_over_static.1_node",
            "mt_encoder.dynamic_over_tutel.1_node",
            "mt_encoder.balancing_gain_percent",
        ),
        LAYER,
    ),
    "mt_decoder.buffering_over_static.1_node": LANGUAGE,
    "mt_decoder.buffering_over_static.2_nodes": (
        f"{LANGUAGE}, and whether slots are 10 a GPU or 80 in total (slots)"
    ),
    "lm.balancing_gain_percent": (
        "the study's time that balance does not move is longer than kernels and launches here"
    ),
})  # fmt: skip
