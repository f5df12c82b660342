"""How right a recorded look-ahead is, by how many MoE layers it looks ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import NO_EXPERT, RoutingTrace

_CHUNK_PAIRS = 1 << 22

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of a look-ahead over ``distance`` MoE layers int64[L]: the experts that tokens ``chose`` in
    each layer that it is of, those that it ``named``, each once a token, and those that are
    ``right``: both. All 0 in layers that are not predicted, or over as many layers cannot be.
    """

    distance: int
    chose: Ints
    named: Ints
    right: Ints

    @property
    def layers(self) -> Ints:
        """The MoE layers that are predicted."""
        return np.flatnonzero(self.named)

    def recall(self, layer: int | None = None) -> float | None:
        """Which share of what tokens choose was predicted, in a ``layer`` or in all that are."""
        return _share(self.right, self.chose, layer)

    def precision(self, layer: int | None = None) -> float | None:
        """Which share of what was predicted tokens choose, likewise."""
        return _share(self.right, self.named, layer)


def predictions(trace: RoutingTrace) -> list[Predictions]:
    """How right ``predicted_ids`` are, token by token, for each distance that some layer has; none
    without them.

    Over d MoE layers there is no prediction of the first d, as nothing runs before them; but of
    layer 0 over one, which is made before the pass.
    """
    if trace.predicted_ids is None:
        return []
    rows = [_of(trace, distance) for distance in range(1, trace.look_ahead.shape[1] + 1)]
    return [row for row in rows if row.named.any()]


def _of(trace: RoutingTrace, distance: int) -> Predictions:
    sums = np.zeros((3, trace.moe_layers), np.int64)
    first = 0 if distance == 1 else distance
    tokens = max(1, _CHUNK_PAIRS // (trace.moe_layers * trace.top_k**2))
    for start in range(0, trace.tokens, tokens):
        part = slice(start, start + tokens)
        chosen = trace.expert_ids[part, first:]
        named = trace.look_ahead[part, distance - 1, first:]
        known = (named != NO_EXPERT) & ~_repeated(named)
        hit = known & (named[..., :, None] == chosen[..., None, :]).any(axis=3)
        for row, mask in enumerate((chosen != NO_EXPERT, known, hit)):
            sums[row, first:] += mask.sum(axis=(0, 2))
    sums[:, sums[1] == 0] = 0
    return Predictions(distance, *sums)


def _repeated(ids: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Where an id stands before in the same token and layer."""
    same = ids[..., :, None] == ids[..., None, :]
    return np.asarray(np.tril(same, -1).any(axis=3))


def _share(part: Ints, of: Ints, layer: int | None) -> float | None:
    counted = slice(None) if layer is None else slice(layer, layer + 1)
    whole = int(of[counted].sum())
    return int(part[counted].sum()) / whole if whole else None
