"""The same experts again."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Prefetcher, View


class History(Prefetcher):
    """Predicts for a layer what it needed in the last pass that ran it: the previous token's
    experts.
    """

    kind: Literal["history"] = "history"
    when_none_starts: ClassVar[str] = (
        "what a layer needed in the last pass is in its slots still, so nothing is to be copied"
    )

    def predict(self, view: View, source: int, target: int, gpu: int) -> ActiveExperts:
        """See ``Prefetcher``."""
        del source
        active_experts, last = view.active_experts[target, gpu], view.before.get((target, gpu))
        before = np.empty(0, np.int64) if last is None else last
        known = np.concatenate((before, active_experts.experts))
        starts = np.concatenate(([0], len(before) + active_experts.offsets))
        if view.active[:, target].all():
            return ActiveExperts(starts[:-1], known[: starts[-2]])
        ran = np.where(view.active[:, target], np.arange(1, view.passes + 1), 0)
        latest = np.concatenate(([0], np.maximum.accumulate(ran)[:-1]))  # 0: before the view
        lengths = np.diff(starts)[latest]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        places = np.arange(offsets[-1]) + np.repeat(starts[latest] - offsets[:-1], lengths)
        return ActiveExperts(offsets, known[places])
