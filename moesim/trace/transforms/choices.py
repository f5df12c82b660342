"""The choices of a trace on their way through transforms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.trace.routing import NO_EXPERT

Ids = NDArray[np.uint16]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Choices:
    """What each token chose in each MoE layer, as far as it is left.

    ``ids`` uint16[T, L, k], NO_EXPERT where there is none; aligned with them ``weights``, the gate
    weights that the model would use now, and ``recorded``, those of the trace, which say what is
    lost (None where the trace has none). ``living`` bool[L, E]: the experts that the model still
    has. ``learnt`` int: of the first so many tokens a transform has learnt. ``notes``: what a
    reader of the result has to know. ``passes`` int64[T]: the forward pass of each token, -1 where
    the run has none; None where they are not known.
    """

    ids: Ids
    weights: Floats | None
    recorded: Floats | None
    living: Mask
    predicted: Ids | None = None
    learnt: int = 0
    notes: tuple[str, ...] = ()
    passes: NDArray[np.int64] | None = None

    @property
    def chosen(self) -> Mask:
        """Which of the places hold an expert: bool[T, L, k]."""
        return np.asarray(self.ids != NO_EXPERT)

    @property
    def experts(self) -> int:
        """The routed experts of a layer of the recorded model."""
        return int(self.living.shape[1])

    def ranks(self) -> NDArray[np.int64]:
        """int64[T, L, k]: 0 is a token's largest weight, of equals the first; without weights the
        order of the trace.
        """
        values = np.where(self.chosen, 0.0 if self.weights is None else self.weights, -1.0)
        if (values[:, :, 1:] <= values[:, :, :-1]).all():  # as most traces record them
            return np.broadcast_to(np.arange(values.shape[2]), values.shape)
        order = np.argsort(-values, axis=2, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(order.shape[2])[None, None], axis=2)
        return ranks

    def weighed(self, kind: str) -> Floats:
        """The gate weights, 0 where there is no choice; an InputError that names ``kind`` where the
        trace has none.
        """
        if self.weights is None:
            what = f"'{kind}' reads gate weights, and the trace has none; record one with weights"
            raise InputError([Problem("", "routing", what)])
        return np.where(self.chosen, self.weights, 0.0)

    def keep(self, mask: Mask) -> Choices:
        """The choices where ``mask`` bool[T, L, k] holds, moved to the front in their order."""
        kept = mask & self.chosen
        in_front = not (kept[:, :, 1:] & ~kept[:, :, :-1]).any()
        order = None if in_front else np.argsort(~kept, axis=2, kind="stable")

        def moved(values: Floats | None) -> Floats | None:
            if values is None:
                return None
            left = np.where(kept, values, 0.0)
            return left if order is None else np.take_along_axis(left, order, axis=2)

        ids = np.where(kept, self.ids, np.uint16(NO_EXPERT))
        ids = ids if order is None else np.take_along_axis(ids, order, axis=2)
        weights = moved(self.weights)
        recorded = weights if self.recorded is self.weights else moved(self.recorded)
        return replace(self, ids=ids, weights=weights, recorded=recorded)

    def noted(self, note: str) -> Choices:
        """The choices with one more ``note``."""
        return replace(self, notes=(*self.notes, note))
