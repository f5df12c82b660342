"""Routing by a recorded prediction, as SiDA-MoE runs (arXiv 2310.18859)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from moesim.config.errors import InputError, Problem
from moesim.trace.routing import NO_EXPERT
from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices, Floats, Ids


class Predicted(Transform):
    """The recorded prediction is the routing: ``predicted_ids`` in place of the router's choices.

    A choice that the router had made too keeps its gate weight; of a wrong one the weight is not
    known and counts as 0, and what the router's own choice had is lost.
    """

    kind: Literal["predicted"] = "predicted"
    loses: ClassVar[str] = "mispredicted"

    def apply(self, choices: Choices) -> Choices:
        """See ``Transform``."""
        predicted = choices.predicted
        if predicted is None:
            what = "'predicted' reads the experts that a look-ahead predicted, and the trace has no"
            raise InputError([Problem("", "routing", f"{what} predicted_ids; record them")])
        if predicted.ndim > choices.ids.ndim:  # by distance: what was predicted last
            predicted = predicted[:, 0]
        known = np.where(_repeated(predicted), np.uint16(NO_EXPERT), predicted)
        moved = replace(
            choices,
            ids=known,
            weights=_found(choices.ids, choices.weights, known),
            recorded=_found(choices.ids, choices.recorded, known),
        )
        layers = np.arange(known.shape[1])[None, :, None]
        alive = moved.living[layers, np.minimum(known, choices.experts - 1)]
        return moved.keep(alive)


def _repeated(ids: Ids) -> np.ndarray:
    """Where an id stands before in the same token and layer."""
    same = ids[:, :, :, None] == ids[:, :, None, :]
    return np.asarray(np.tril(same, -1).any(axis=3))


def _found(ids: Ids, weights: Floats | None, wanted: Ids) -> Floats | None:
    """The ``weights`` of ``ids`` where they are among ``wanted``, else 0, aligned with these."""
    if weights is None:
        return None
    same = (wanted[:, :, :, None] == ids[:, :, None, :]) & (wanted != NO_EXPERT)[..., None]
    return np.asarray((same * weights[:, :, None, :]).sum(axis=3))
