"""Gating without drops: the capacity is the largest count over the group."""

from __future__ import annotations

from typing import ClassVar, Literal

from moesim.gating.base import Gating, Ints, Routed, largest_count, padded_to


class NoDrop(Gating):
    """Dense masks with a capacity on which the GPUs agree in every layer (DeepSpeed's
    ``drop_tokens: false``): nothing is dropped, much is padded.
    """

    kind: Literal["no_drop"] = "no_drop"
    uneven: ClassVar[bool] = False
    invokes_all: ClassVar[bool] = True
    masks: ClassVar[bool] = True

    @property
    def agrees(self) -> bool:
        """By an all-reduce of the largest count."""
        return True

    def route(self, counts: Ints, tokens: Ints, top_k: int) -> Routed:
        """Pad every count to the largest."""
        del tokens, top_k
        return padded_to(largest_count(counts), counts)
