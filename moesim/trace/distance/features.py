"""What of two traces is compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import RoutingTrace
from moesim.trace.statistics.batches import distinct_experts
from moesim.trace.statistics.correlation import cramers_v, joint_counts, mutual_information_bits
from moesim.trace.statistics.load import expert_counts
from moesim.trace.statistics.lru import lru_miss_ratios
from moesim.trace.statistics.overlap import overlap_previous
from moesim.trace.statistics.reuse import reuse_distances

Floats = NDArray[np.float64]
BATCH_SIZES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, eq=False)
class Features:
    """The statistics of one trace, each taken when first asked for."""

    trace: RoutingTrace

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """int64[L, E] uses."""
        return expert_counts(self.trace)

    @cached_property
    def load(self) -> Floats:
        """[L, E] share of a layer's uses."""
        return shares(self.counts)

    @cached_property
    def overlap(self) -> Floats:
        """[L] share of a token's experts that the previous token used."""
        return overlap_previous(self.trace)

    @cached_property
    def reuse(self) -> Floats:
        """[L, E + 1] cumulative distribution of the reuse distance, first uses at E."""
        found = reuse_distances(self.trace)
        counts = np.concatenate((found.histogram, found.first_uses[:, None]), axis=1)
        return np.asarray(shares(counts).cumsum(axis=1))

    @cached_property
    def lru(self) -> Floats:
        """[L, E + 1] miss ratio with 0 .. E slots."""
        return lru_miss_ratios(self.trace)

    @cached_property
    def distinct(self) -> dict[int, float]:
        """Distinct experts by batch size, mean over batches and layers."""
        rows = distinct_experts(self.trace, self.counts, BATCH_SIZES)
        return {row.batch_size: row.mean for row in rows}

    @cached_property
    def joint(self) -> list[NDArray[np.int64]]:
        """int64[E, E] of each layer and the next: tokens that use both experts."""
        return [joint_counts(self.trace, layer) for layer in range(self.trace.moe_layers - 1)]

    @cached_property
    def mutual_information(self) -> Floats:
        """[L - 1] bits."""
        return np.array([mutual_information_bits(joint) for joint in self.joint])

    @cached_property
    def association(self) -> Floats:
        """[L - 1] Cramer's V."""
        return np.array([cramers_v(joint) for joint in self.joint])


def shares(counts: NDArray[np.int64]) -> Floats:
    """``counts`` over their sum along the last axis."""
    return np.asarray(counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1))
