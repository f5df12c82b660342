"""Gating without drops: the capacity is the largest count over the group."""

from __future__ import annotations

from typing import ClassVar, Literal

from moesim.gating.base import Gating


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
