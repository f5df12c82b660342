"""A look-ahead that was recorded with the trace."""

from __future__ import annotations

from typing import ClassVar, Literal

from moesim.memory.activations import ActiveExperts
from moesim.memory.prefetch.base import Prefetcher, View, predicted


class Recorded(Prefetcher):
    """Predicts what the trace's ``predicted_ids`` say, such as the next layer's gate on this
    layer's input (Mixtral-offloading, HOBBIT), of the tokens of the same pass.
    """

    kind: Literal["recorded"] = "recorded"
    across_passes: ClassVar[bool] = False
    recorded: ClassVar[bool] = True

    def predict(self, view: View, source: int, target: int, gpu: int) -> ActiveExperts:
        """See ``Prefetcher``."""
        del source
        assert view.recorded is not None, "the trace has predicted_ids"
        return predicted(view.of_local(view.recorded[:, target], target, gpu))
