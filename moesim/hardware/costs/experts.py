"""The routed experts of a MoE layer: a wave of experts in one grouped kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.calibrated_experts import fits_for
from moesim.hardware.fitted_waves import fitted_waves_ns
from moesim.hardware.operation import Operation
from moesim.hardware.roofline import (
    Floats,
    Ints,
    activation_elements,
    matrix_elements,
    padded,
    row_tile,
)
from moesim.model.spec import LayerSpec

if TYPE_CHECKING:
    from moesim.hardware.profile import HardwareProfile
    from moesim.model.spec import ModelSpec

STARTS = 3
"""Gate and up, activation, down; with the two reorderings, the five kernels of a fused MoE."""


REORDERINGS = 2
"""Reorderings that a measured fused MoE layer contains, and that have a price of their own here."""


class Experts(Operation):
    """start-ups + max(bytes of the distinct experts, padded rows of all) + activation traffic.

    The tile follows the wave's tokens, as in Triton's fused kernel: rows / top-k. Left out are
    weights read again by further row tiles, the L2 cache, and the tail of the last tiles. Where the
    profile has a fit for the weights' format, its formula prices all that (``expert_kernel``).
    """

    kind: ClassVar[str] = "experts"

    def __init__(self, hardware: HardwareProfile, model: ModelSpec) -> None:
        super().__init__(hardware, model)
        if hardware.calibrated is not None and hardware.calibrated.experts:
            self.source = "fitted"

    def price(self, layer: LayerSpec, rows: ArrayLike, starts: ArrayLike) -> Floats:
        """See ``CostModel.experts_ns``."""
        assert layer.moe is not None, "a dense layer has no routed experts"
        expert, top_k = layer.moe.expert, layer.moe.top_k
        counts, first = np.asarray(rows, np.int64), np.asarray(starts, np.int64)
        members = np.diff(first, append=counts.size)
        assert (members >= 0).all(), "waves follow one another"
        counts = counts[first[0] :] if first.size else counts[:0]
        if fits := fits_for(self.hardware, expert.dtype):
            size = self.model.activation_bytes
            time = fitted_waves_ns(self.hardware, fits, layer.moe, size, counts, members)
            start = np.minimum(REORDERINGS * self.gpu.start_ns, time)
            return np.where(members > 0, time - start, 0.0)
        total, distinct = _sums(counts, members), _sums(np.sign(counts), members)
        tile = np.repeat(row_tile(-(-total // top_k)), members)
        efficient = _sums(padded(counts, tile), members) + np.where(
            total > 0, self.gpu.half_rows, 0
        )
        work = efficient * (2.0 * matrix_elements(expert))
        time = np.maximum(
            self.gpu.weights_ns(distinct * float(expert.bytes)),
            self.gpu.operations_ns(work, expert.dtype),
        )
        moved = float(activation_elements(expert) * self.model.activation_bytes)
        time = time + self.gpu.activations_ns(total * moved)
        return np.where(members > 0, time + STARTS * self.gpu.start_ns, 0.0)


def _sums(values: Ints, members: Ints) -> Ints:
    """The sums of consecutive groups with ``members`` entries each; an empty group sums to 0."""
    running = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    ends = np.cumsum(members)
    return np.asarray(running[ends] - running[ends - members], np.int64)
