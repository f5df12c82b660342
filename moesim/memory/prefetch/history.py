"""The same experts again."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.memory.prefetch.base import Prefetcher, View
from moesim.memory.turns import Needs


class History(Prefetcher):
    """Predicts for a layer what it needed in the last pass that ran it: the previous token's
    experts.
    """

    kind: Literal["history"] = "history"

    def predict(self, view: View, source: int, target: int, gpu: int) -> Needs:
        """See ``Prefetcher``."""
        del source
        needs, last = view.needs[target, gpu], view.before.get((target, gpu))
        experts = np.empty(0, np.int64) if last is None else last
        found = []
        for step in range(view.passes):
            found.append(experts)
            if view.active[step, target]:
                experts = needs.experts[needs.offsets[step] : needs.offsets[step + 1]]
        offsets = np.concatenate(([0], np.cumsum([len(one) for one in found])))
        return Needs(offsets, np.concatenate(found))
