"""Gating: from routed tokens to the rows that each expert computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from moesim.config.params import Params

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Routed:
    """Rows after gating, for p passes, l MoE layers, g senders and e experts.

    ``rows`` int64[p, l, e] rows that an expert computes, padding included; ``kept`` int64[p, l, g,
    e] choices that were routed; ``sent`` int64[p, l, g, e] rows that a GPU sends, padding included;
    ``dropped`` int64[p, l] choices lost; ``capacity`` int64[p] rows per sender and expert, 0 where
    a gating has none.
    """

    rows: Ints
    kept: Ints
    sent: Ints
    dropped: Ints
    capacity: Ints


class Gating(Params):
    """A gating policy.

    ``uneven``: the split over GPUs depends on the counts, so they are exchanged first.
    ``invokes_all``: every local expert is executed, empty or not. ``masks``: dispatch and combine
    are dense products with masks of tokens x experts x capacity; otherwise rows are reordered.
    """

    uneven: ClassVar[bool]
    invokes_all: ClassVar[bool]
    masks: ClassVar[bool]

    def route(self, counts: Ints, tokens: Ints) -> Routed:
        """Route ``counts`` int64[p, l, g, e] (choices by sender), ``tokens`` int64[p, g] (a
        sender's).
        """
        raise NotImplementedError
