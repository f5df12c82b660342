"""How many distinct experts a layer needs for a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import Phase, RoutingTrace

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class DistinctExperts:
    """Distinct experts of a layer in batches of ``batch_size`` tokens of different requests.

    ``steps`` batches were counted; ``mean`` is over batches and layers; ``uniform`` is
    E (1 - (1 - k / E)^B), experts chosen at random; ``independent`` is the sum over experts of
    1 - (1 - f_e)^B with the measured use f_e a token, so that the rest of the difference is
    correlation between tokens.
    """

    batch_size: int
    steps: int
    mean: float
    uniform: float
    independent: float


def distinct_experts(
    trace: RoutingTrace, counts: NDArray[np.int64], sizes: tuple[int, ...] = BATCH_SIZES
) -> list[DistinctExperts]:
    """Distinct experts by batch size, for the sizes that the requests suffice for.

    Requests are taken in file order in groups of B; batch j of a group has the j-th token of each,
    as long as all B have one. Only decode tokens are taken if there are any.
    """
    requests = _requests(trace)
    frequency = counts / trace.tokens
    k, experts = counts.sum() / (trace.tokens * trace.moe_layers), trace.experts
    found = []
    for size in sizes:
        numbers = [_distinct(batch, experts) for batch in _batches(trace, requests, size)]
        if numbers:
            steps = sum(len(number) for number in numbers)
            found.append(
                DistinctExperts(
                    size,
                    steps,
                    float(sum(number.sum() for number in numbers) / (steps * trace.moe_layers)),
                    float(experts * (1 - (1 - k / experts) ** size)),
                    float((1 - (1 - frequency) ** size).sum(axis=1).mean()),
                )
            )
    return found


def _requests(trace: RoutingTrace) -> list[NDArray[np.int64]]:
    """The rows of each request that take part."""
    decode = trace.phase == Phase.DECODE
    chosen = decode if decode.any() else np.ones(trace.tokens, dtype=bool)
    parts = np.split(np.arange(trace.tokens), trace.request_offsets()[1:-1])
    rows = [part[chosen[part]] for part in parts]
    return [part for part in rows if len(part)]


def _batches(
    trace: RoutingTrace, requests: list[NDArray[np.int64]], size: int
) -> Iterator[NDArray[np.uint16]]:
    """[steps, L, B * k] of each full group."""
    for first in range(0, len(requests) - size + 1, size):
        group = requests[first : first + size]
        steps = min(len(rows) for rows in group)
        rows = np.stack([rows[:steps] for rows in group], axis=1)
        ids = np.moveaxis(trace.expert_ids[rows], 1, 2)
        yield ids.reshape(steps, trace.moe_layers, -1)


def _distinct(batch: NDArray[np.uint16], experts: int) -> NDArray[np.int64]:
    """[steps, L] numbers of distinct experts."""
    steps, layers, _ = batch.shape
    needed = np.zeros((steps, layers, experts + 1), dtype=bool)
    slots = np.minimum(batch, experts).astype(np.intp)  # unused slots go to a column of their own
    np.put_along_axis(needed, slots, values=True, axis=2)
    return np.asarray(np.count_nonzero(needed[:, :, :experts], axis=2))
