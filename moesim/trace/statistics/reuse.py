"""How much else is used before an expert is used again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import NO_EXPERT, RoutingTrace

_CELLS = 1 << 22
"""Table cells (tokens x layers x experts) looked at together; bounds the memory."""


@dataclass(frozen=True)
class ReuseDistances:
    """Distances of expert uses within their request.

    The distance of a use of expert e by token t, last used by token s < t of the same request, is
    the number of distinct other experts of the layer that tokens s + 1 .. t - 1 use: 0 for the
    next token.

    ``histogram`` int64[L, E]: uses at each distance; ``first_uses`` int64[L]: uses without an
    earlier one in their request.
    """

    histogram: NDArray[np.int64]
    first_uses: NDArray[np.int64]

    def quantile(self, level: float) -> NDArray[np.int64]:
        """[L] the smallest distance that a share ``level`` of the reuses does not exceed.

        -1 where a layer has no reuse.
        """
        cumulative = self.histogram.cumsum(axis=1)
        total = cumulative[:, -1:]
        reached = np.argmax(cumulative >= level * total, axis=1)
        return np.where(total[:, 0] > 0, reached, -1)

    def first_use_share(self) -> NDArray[np.float64]:
        """[L] first uses over all uses."""
        return np.asarray(
            self.first_uses / np.maximum(self.first_uses + self.histogram.sum(axis=1), 1)
        )


def reuse_distances(trace: RoutingTrace) -> ReuseDistances:
    """The reuse distances of all layers."""
    layers, experts = trace.moe_layers, trace.experts
    histogram = np.zeros((layers, experts), dtype=np.int64)
    first_uses = np.zeros(layers, dtype=np.int64)
    offsets = trace.request_offsets()
    for start, end in pairwise(offsets):
        rows = trace.expert_ids[start:end]
        width = max(1, _CELLS // (len(rows) * experts))
        for first in range(0, layers, width):
            last = min(first + width, layers)
            _count(rows[:, first:last], experts, histogram[first:last], first_uses[first:last])
    return ReuseDistances(histogram, first_uses)


def _count(
    rows: NDArray[np.uint16],
    experts: int,
    histogram: NDArray[np.int64],
    first_uses: NDArray[np.int64],
) -> None:
    """Add the uses of one request in some layers, rows [n, l, k]."""
    layers = rows.shape[1]
    last = _last_uses(rows, experts)
    column = np.arange(layers)
    for slot in np.moveaxis(rows, 2, 0):
        used = slot != NO_EXPERT
        own = np.take_along_axis(last, np.where(used, slot, 0)[:, :, None].astype(np.intp), axis=2)
        distance = np.count_nonzero(last > own, axis=2)
        reused = used & (own[:, :, 0] >= 0)
        first_uses += (used & ~reused).sum(axis=0)
        key = (column * experts + distance)[reused]
        histogram += np.bincount(key, minlength=layers * experts).reshape(layers, experts)


def _last_uses(rows: NDArray[np.uint16], experts: int) -> NDArray[np.int32]:
    """[n, l, E]: the last token before each one that used the expert, -1 if none."""
    tokens, layers, _ = rows.shape
    last = np.full((tokens + 1, layers, experts + 1), -1, dtype=np.int32)
    token = np.arange(tokens)[:, None, None]
    slots = np.minimum(rows, experts)  # unused slots go to a column of their own
    last[token + 1, np.arange(layers)[None, :, None], slots] = token
    np.maximum.accumulate(last, axis=0, out=last)
    return np.ascontiguousarray(last[:-1, :, :experts])
