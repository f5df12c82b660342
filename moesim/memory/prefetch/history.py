"""The same experts again."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Prefetcher, View


class History(Prefetcher):
    """Predicts for a layer what it needed in the last pass that ran it: the previous token's
    experts.
    """

    kind: Literal["history"] = "history"

    def predict(self, view: View, source: int, target: int, gpu: int) -> ActiveExperts:
        """See ``Prefetcher``."""
        del source
        active_experts, last = view.active_experts[target, gpu], view.before.get((target, gpu))
        experts = np.empty(0, np.int64) if last is None else last
        found = []
        for step in range(view.passes):
            found.append(experts)
            if view.active[step, target]:
                experts = active_experts.experts[
                    active_experts.offsets[step] : active_experts.offsets[step + 1]
                ]
        offsets = np.concatenate(([0], np.cumsum([len(one) for one in found])))
        return ActiveExperts(offsets, np.concatenate(found))
