"""What is counted in a recorded or synthetic part of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.runtime.compiled import njit, types
from moesim.trace.routing import NO_EXPERT
from moesim.trace.synthesis.fitting.ages import AGES, BIN_OF_AGE, STARTS
from moesim.trace.synthesis.tables import stages

Ints = NDArray[np.int64]
Ids = NDArray[np.uint16]
_IDS = types.Array(types.uint16, 3, "C", readonly=True)


@dataclass(frozen=True, eq=False)
class Moments:
    """Counts of expert uses.

    ``uses`` [requests, layers, experts]; ``staged`` [stages of a request, layers, experts];
    ``reuses`` [layers, age bins + 1] by the age of the expert's last use (last bin: not yet used in
    the request) and ``exposures``: how many experts of such an age there were; ``between`` [layers,
    experts, experts]: tokens with expert a in the layer before and b in this one; ``within``: with
    a chosen before b.
    """

    uses: Ints
    staged: Ints
    exposures: Ints
    reuses: Ints
    between: Ints
    within: Ints

    def concentration(self) -> NDArray[np.float64]:
        """[layers] probability that two uses of one request are of the same expert, mean over
        requests.
        """
        uses = self.uses.astype(np.float64)
        total = np.maximum(uses.sum(axis=2), 2)
        same = (uses * (uses - 1)).sum(axis=2) / (total * (total - 1))
        return np.asarray(np.maximum(same.mean(axis=0), np.finfo(np.float64).tiny))


def measure(requests: Sequence[Ids], layers: int, experts: int) -> Moments:
    """The moments of requests with routing [tokens, layers, k]."""
    bins = len(AGES) + 1
    uses = (len(requests), layers, experts), (len(STARTS), layers, experts)
    shapes = (*uses, (layers, bins), (layers, bins))
    pairs = (layers, experts, experts), (layers, experts, experts)
    moments = Moments(*(np.zeros(shape, dtype=np.int64) for shape in (*shapes, *pairs)))
    starts = np.array(STARTS)
    for ids, of_request in zip(requests, moments.uses, strict=True):
        by_age = moments.exposures, moments.reuses
        stage = stages(starts, len(ids))
        _count_ages(ids, stage, BIN_OF_AGE, of_request, moments.staged, *by_age)
        _count_pairs(ids, moments.between, moments.within)
    return moments


@njit(
    types.void(
        _IDS, types.int64[::1], types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1],
        types.int64[:, ::1], types.int64[:, ::1],
    ),
    cache=True,
)  # fmt: skip
def _count_ages(
    ids: Any, stage: Any, bin_of_age: Any, uses: Any, staged: Any, exposures: Any, reuses: Any
) -> None:
    tokens, layers, k = ids.shape
    experts, unused, oldest = uses.shape[1], exposures.shape[1] - 1, len(bin_of_age) - 1
    last, place = np.empty(experts, np.int64), np.empty(experts, np.int64)
    for layer in range(layers):
        last[:] = -1
        for token in range(tokens):
            for expert in range(experts):
                age = min(token - last[expert], oldest)
                place[expert] = unused if last[expert] < 0 else bin_of_age[age]
                exposures[layer, place[expert]] += 1
            for slot in range(k):
                expert = ids[token, layer, slot]
                if expert != NO_EXPERT:
                    reuses[layer, place[expert]] += 1
                    uses[layer, expert] += 1
                    staged[stage[token], layer, expert] += 1
                    last[expert] = token


@njit(types.void(_IDS, types.int64[:, :, ::1], types.int64[:, :, ::1]), cache=True)
def _count_pairs(ids: Any, between: Any, within: Any) -> None:
    tokens, layers, k = ids.shape
    for token in range(tokens):
        for layer in range(layers):
            for slot in range(k):
                expert = ids[token, layer, slot]
                if expert == NO_EXPERT:
                    continue
                for other in range(k):
                    before = ids[token, layer, other]
                    if other < slot and before != NO_EXPERT:
                        within[layer, before, expert] += 1
                    above = ids[token, layer - 1, other]
                    if layer > 0 and above != NO_EXPERT:
                        between[layer, above, expert] += 1
