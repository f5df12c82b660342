"""Static gating: a fixed capacity for every sender and expert."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from moesim.config.units import Percent
from moesim.gating.base import Gating, Ints, Routed


class Static(Gating):
    """Capacity as a fraction of the sender's tokens; padding and drops are counted.

    A sender's tokens are those of the fullest GPU (its batch is padded to it); choices beyond the
    capacity are dropped. Default 25 % as in fairseq's ``moe_eval_capacity_token_fraction``.
    """

    kind: Literal["static"] = "static"
    capacity_fraction: Annotated[
        Percent, Field(description="Rows per sender and expert, as a share of the sender's tokens.")
    ] = 0.25
    uneven: ClassVar[bool] = False
    invokes_all: ClassVar[bool] = True
    masks: ClassVar[bool] = True

    def route(self, counts: Ints, tokens: Ints) -> Routed:
        """Clip every count at the capacity, and pad it to the capacity."""
        share = Fraction(str(self.capacity_fraction))
        capacity = -(-tokens.max(axis=1) * share.numerator // share.denominator)
        kept = np.minimum(counts, capacity[:, None, None, None])
        sent = np.broadcast_to(capacity[:, None, None, None], counts.shape)
        dropped = (counts - kept).sum(axis=(2, 3))
        rows = np.broadcast_to(
            (capacity * counts.shape[2])[:, None, None], (*counts.shape[:2], counts.shape[3])
        )
        return Routed(rows, kept, sent, dropped, capacity)
