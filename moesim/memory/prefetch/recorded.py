"""A look-ahead that was recorded with the trace."""

from __future__ import annotations

from typing import ClassVar, Literal

from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Prefetcher, View


class Recorded(Prefetcher):
    """Predicts what the trace's ``predicted_ids`` say, such as the next layer's gate on this
    layer's input (Mixtral-offloading, HOBBIT), of the tokens of the same pass. Where they have an
    axis of distances, a layer d MoE layers ahead is predicted as recorded over that distance.
    """

    kind: Literal["recorded"] = "recorded"
    across_passes: ClassVar[bool] = False
    follows: ClassVar[bool] = False
    recorded: ClassVar[bool] = True
    weighs: ClassVar[bool] = True

    def predict(self, view: View, source: int, target: int, gpu: int) -> ActiveExperts:
        """See ``Prefetcher``."""
        del source
        assert view.recorded is not None, "the trace has predicted_ids"
        found = view.recorded[view.distance - 1, :, target]
        return ActiveExperts.of(view.of_local(found, target, gpu))

    def distances(self, view: View) -> int:
        """See ``Prefetcher``."""
        return 1 if view.recorded is None else min(len(view.recorded), self.layers)
