"""Experts that the tokens of a forward pass share (XShare)."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices


class Xshare(Transform):
    """Choices among the experts of a layer that have the largest sum of gate weights in the forward
    pass, as many as a pass may run.
    """

    by_pass: ClassVar[bool] = True

    kind: Literal["xshare"] = "xshare"
    experts: int = Field(ge=1, description="Experts of a layer that a forward pass may run.")
    least: int = Field(
        default=1, ge=0, description="Choices that a token keeps whatever the others choose."
    )

    def apply(self, choices: Choices) -> Choices:
        """See ``Transform``."""
        weights, chosen = choices.weighed(self.kind), choices.chosen
        if (passes := choices.passes) is None:
            note = "xshare: no forward passes are known, the experts are those of the whole trace"
            choices, passes = choices.noted(note), np.zeros(len(choices.ids), np.int64)
        shared = np.zeros(chosen.shape, np.bool_)
        for layer in range(chosen.shape[1]):
            ids = np.where(chosen[:, layer], choices.ids[:, layer], 0).astype(np.int64)
            shared[:, layer] = self._shared(ids, weights[:, layer], passes + 1, choices.experts)
        return choices.keep(shared | (choices.ranks() < self.least))

    def _shared(
        self, ids: NDArray[np.int64], weights: NDArray[np.float64], group: NDArray[np.int64],
        experts: int,
    ) -> NDArray[np.bool_]:  # fmt: skip
        """Which choices ``ids`` [T, k] of a layer are of the experts of their ``group`` int64[T];
        of equal sums the first expert.
        """
        cells = group[:, None] * experts + ids
        sums = np.bincount(cells.ravel(), weights.ravel(), (int(group.max()) + 1) * experts)
        order = np.argsort(-sums.reshape(-1, experts), axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(experts)[None], axis=1)
        taken: NDArray[np.bool_] = ranks.ravel()[cells] < self.experts
        return taken
