"""Dynamic gating: exactly the routed tokens move and are computed."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from moesim.gating.base import Gating, Ints, Routed


class Dynamic(Gating):
    """Uneven splits by the routed counts; nothing padded, nothing dropped (arXiv 2303.06182,
    section 4).
    """

    kind: Literal["dynamic"] = "dynamic"
    uneven: ClassVar[bool] = True
    invokes_all: ClassVar[bool] = False
    masks: ClassVar[bool] = False

    def route(self, counts: Ints, tokens: Ints, top_k: int) -> Routed:
        """Keep every choice."""
        del tokens, top_k
        none = np.zeros(counts.shape[:2], np.int64)
        return Routed(counts.sum(axis=2), counts, counts, none, none)
