"""The routed experts of a MoE layer: a wave of experts in one grouped kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.basis import by_source
from moesim.hardware.fitted_waves import FittedWaves
from moesim.hardware.operation import Operation
from moesim.hardware.roofline import (
    Floats,
    Ints,
    activation_elements,
    matrix_elements,
    padded,
    row_tile,
)
from moesim.hardware.tiles import TileTable
from moesim.model.spec import LayerSpec

if TYPE_CHECKING:
    from moesim.model.spec import MoeSpec

STARTS = 3
"""Gate and up, activation, down; with the two reorderings, the five kernels of a fused MoE."""


REORDERINGS = 2
"""Reorderings that a measured fused MoE layer contains, and that have a price of their own here."""


class Experts(Operation):
    """start-ups + max(bytes of the distinct experts, padded rows of all) + activation traffic.

    The tile follows the wave's tokens, as in Triton's fused kernel: rows / top-k; that of a batched
    product, whose experts have equal rows, those. Left out are
    weights read again by further row tiles, the L2 cache, and the tail of the last tiles. Where the
    profile has a fit for the weights' format, its formula prices all that (``expert_kernel``).
    """

    kind: ClassVar[str] = "experts"

    def price(self, layer: LayerSpec, rows: ArrayLike, starts: ArrayLike) -> Floats:
        """See ``CostModel.experts_ns``."""
        assert layer.moe is not None, "a dense layer has no routed experts"
        expert, top_k = layer.moe.expert, layer.moe.top_k
        counts, members = _waves(rows, starts)
        if (waves := self._fitted(layer.moe)).fits:
            time = waves.price(counts, members)
            inside = 0.0 if self.serial else REORDERINGS * self.gpu.start_ns
            return np.where(members > 0, time - np.minimum(inside, time), 0.0)
        total, distinct = _sums(counts, members), _sums(np.sign(counts), members)
        tile = np.repeat(row_tile(-(-total // top_k)), members)
        if self.batched:
            tile = row_tile(counts)
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

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``."""
        layer, rows, starts = shape
        if not (waves := self._fitted(layer.moe)).fits:
            return super().rests_on(price_ns, *shape)
        return by_source(price_ns, waves.sources(*_waves(rows, starts)))

    def tiles(self, layer: LayerSpec, number: Ints) -> TileTable | None:
        """See ``CostModel.expert_tiles``."""
        assert layer.moe is not None, "a dense layer has no routed experts"
        if self.batched:
            return None
        if (waves := self._fitted(layer.moe)).fits:
            return waves.tiles(number)
        return TileTable(row_tile(-(-number // layer.moe.top_k)), np.ones_like(number), False)

    def _fitted(self, moe: MoeSpec) -> FittedWaves:
        size, start = self.model.activation_bytes, STARTS * self.gpu.start_ns
        return FittedWaves(self.hardware, moe, size, serial=self.serial, start_ns=start)


def _waves(rows: ArrayLike, starts: ArrayLike) -> tuple[Ints, Ints]:
    """The rows of all waves, and how many entries each wave has."""
    counts, first = np.asarray(rows, np.int64), np.asarray(starts, np.int64)
    members = np.diff(first, append=counts.size)
    assert (members >= 0).all(), "waves follow one another"
    return counts[first[0] :] if first.size else counts[:0], members


def _sums(values: Ints, members: Ints) -> Ints:
    """The sums of consecutive groups with ``members`` entries each; an empty group sums to 0."""
    running = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    ends = np.cumsum(members)
    return np.asarray(running[ends] - running[ends - members], np.int64)
