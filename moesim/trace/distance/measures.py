"""The distances, one a statistic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesim.trace.distance.features import Features, shares
from moesim.trace.statistics.load import entropy_bits

Floats = NDArray[np.float64]
LRU_SLOTS = (8, 16)
_POINTS = 100

DEFINITIONS = {
    "load": "total variation between the experts' shares of a layer's uses, mean over layers "
    "(0 .. 1); the values are the entropies in bits",
    "overlap_previous": "share of a token's experts that the previous token of its request used; "
    "mean over layers of the absolute difference",
    "reuse_distance_wasserstein": "distance of a use from the expert's last use in distinct other "
    "experts, a request's first uses counted as E; Wasserstein-1 distance, mean over layers; the "
    "values are the means",
    "reuse_distance_ks": "the same; largest difference of the cumulative distributions "
    "(Kolmogorov-Smirnov), mean over layers",
    "lru_miss_N_slots": "miss ratio of an LRU cache of N slots at batch 1, mean over layers; "
    "difference of the means in points",
    "lru_miss_largest": "the largest such difference over all numbers of slots",
    "lru_miss_by_layer_N_slots": "mean over layers of the absolute difference of a layer, in "
    "points; the values are the largest misses of a layer",
    "distinct_experts_batch_N": "distinct experts a layer needs for a token from each of N "
    "successive requests; absolute difference",
    "next_layer_information": "mutual information of a token's experts in a layer and in the next; "
    "mean over layers of the absolute difference in bits",
    "next_layer_cramers_v": "Cramer's V of the same pairs; mean of the absolute difference",
    "next_layer_pairs": "total variation between the shares of these pairs, mean over layers; the "
    "values are the shares of the 10 % most frequent pairs",
}
"""What each measure means."""


@dataclass(frozen=True)
class Measure:
    """A value of each trace and their distance, in ``unit``."""

    unit: str
    first: float
    second: float
    distance: float


def measures(first: Features, second: Features) -> dict[str, Measure]:
    """All measures that exist for both, by name."""
    found = {
        "load": _load(first, second),
        "overlap_previous": _layers("share", first.overlap, second.overlap),
        **dict(_reuse(first, second)),
        **dict(_lru(first.lru, second.lru)),
        **dict(_distinct(first.distinct, second.distinct)),
    }
    if first.joint:
        information = first.mutual_information, second.mutual_information
        found["next_layer_information"] = _layers("bits", *information)
        found["next_layer_cramers_v"] = _layers("V", first.association, second.association)
        joint = [shares(np.stack(of.joint).reshape(len(of.joint), -1)) for of in (first, second)]
        tops = _top(joint[0]), _top(joint[1])
        found["next_layer_pairs"] = Measure("share", *tops, _variation(joint[0], joint[1]))
    return {name: row for name, row in found.items() if np.isfinite(row.distance)}


def _load(first: Features, second: Features) -> Measure:
    one, other = (float(entropy_bits(of.counts).mean()) for of in (first, second))
    return Measure("share", one, other, _variation(first.load, second.load))


def _variation(first: Floats, second: Floats) -> float:
    return float(np.abs(first - second).sum(axis=1).mean() / 2)


def _layers(unit: str, first: Floats, second: Floats) -> Measure:
    difference = float(np.abs(first - second).mean())
    return Measure(unit, float(first.mean()), float(second.mean()), difference)


def _reuse(first: Features, second: Features) -> Iterator[tuple[str, Measure]]:
    gap = np.abs(first.reuse - second.reuse)
    means = [float((1 - of.reuse).sum(axis=1).mean()) for of in (first, second)]
    moved = float(gap.sum(axis=1).mean())
    yield "reuse_distance_wasserstein", Measure("experts", means[0], means[1], moved)
    largest = float(gap.max(axis=1).mean())
    yield "reuse_distance_ks", Measure("share", means[0], means[1], largest)


def _lru(first: Floats, second: Floats) -> Iterator[tuple[str, Measure]]:
    one, other = first.mean(axis=0) * _POINTS, second.mean(axis=0) * _POINTS
    gap = np.abs(one - other)
    for slots in (n for n in LRU_SLOTS if n < first.shape[1] - 1):
        yield f"lru_miss_{slots}_slots", Measure("points", one[slots], other[slots], gap[slots])
    worst = int(gap.argmax())
    yield "lru_miss_largest", Measure("points", one[worst], other[worst], gap[worst])
    for slots in (n for n in LRU_SLOTS if n < first.shape[1] - 1):
        layers = [of[:, slots] * _POINTS for of in (first, second)]
        difference = float(np.abs(layers[0] - layers[1]).mean())
        most = float(layers[0].max()), float(layers[1].max())
        row = Measure("points", *most, difference)
        yield f"lru_miss_by_layer_{slots}_slots", row


def _distinct(first: dict[int, float], second: dict[int, float]) -> Iterator[tuple[str, Measure]]:
    for size in sorted(first.keys() & second.keys()):
        values = first[size], second[size]
        difference = abs(values[0] - values[1])
        yield f"distinct_experts_batch_{size}", Measure("experts", *values, difference)


def _top(share: Floats) -> float:
    """Mean over layers of the summed shares of a tenth of the pairs."""
    ordered = -np.sort(-share, axis=1)
    return float(ordered[:, : max(1, share.shape[1] // 10)].sum(axis=1).mean())
