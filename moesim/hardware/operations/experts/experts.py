"""The routed experts of a MoE layer: a launch of experts in one grouped kernel."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation, TileTable, known_fits
from moesim.hardware.operations.experts.launches import FittedLaunches, tokens_of
from moesim.hardware.operations.experts.unpacking import Unpacking
from moesim.hardware.operations.products.calibrated import ffn_parts
from moesim.hardware.prices.arrays import Floats, Ints, group_sums
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part, provenance_of, where
from moesim.hardware.prices.provenance import Source, by_source
from moesim.hardware.roofline import activation_elements
from moesim.hardware.row_tiles import padded
from moesim.model.spec import LayerSpec

if TYPE_CHECKING:
    from moesim.hardware.profile import HardwareProfile
    from moesim.model.spec import ModelSpec, MoeSpec

STARTS = 3
"""Gate and up, activation, down; with the two reorderings, the five kernels of a fused MoE."""


OF_LOW_RANK = 2
"""Further kernels of matrices of low rank: two products for one, of gate and up and of down."""
REORDERINGS = 2
"""Reorderings that a measured fused MoE layer contains, and that have a price of their own here."""


class Experts(Operation):
    """start-ups + max(bytes of the distinct experts, padded rows of all) + activation traffic.

    The tile follows the launch's tokens, as in Triton's fused kernel: rows / top-k, if they are not
    told; that of a batched product, whose experts have equal rows, those. Left out are weights read
    again by further row tiles, the L2 cache, and the tail of the last tiles. Where the profile has
    a fit for the weights' format, its formula prices all that (``kernel.py``). One expert that
    every token takes costs what a dense network costs. What software unpacks before a product is
    ``unpacking``.
    Parts of an expert run one after the other, each priced as an expert of its own; adding their
    outputs is left out. Matrices of low rank are two products each, by the datasheet.
    """

    kind: ClassVar[str] = "experts"
    category: ClassVar[str] = "experts"

    def __init__(self, hardware: HardwareProfile, model: ModelSpec, **choices: Any) -> None:
        super().__init__(hardware, model, **choices)
        self._unpacking = Unpacking(hardware, model, **choices)
        self._launches: dict[MoeSpec, FittedLaunches] = {}

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        every = {layer.moe: None for layer in self.model.moe_layers if layer.moe}
        parts = (
            replace(moe, expert=one) for moe in every for one in moe.expert.parts or (moe.expert,)
        )
        return known_fits(self._fitted(moe).chosen[0] for moe in parts if self._fits(moe))

    def parts(
        self, layer: LayerSpec, rows: ArrayLike, starts: ArrayLike, tokens: Ints | None = None
    ) -> list[Part]:
        """See ``CostModel.experts_ns``."""
        moe = _moe(layer)
        if moe.expert.parts:
            return [one for of in _by_part(layer) for one in self.parts(of, rows, starts, tokens)]
        parts = self.launch(layer, rows, starts, tokens)
        if not self.serial and moe.chooses and self._fits(moe):
            (time,) = (part.time_ns for part in parts)
            inside = np.minimum(self._reorderings_ns, time)
            parts = [*parts, Part(-inside, name="starts of the reorderings, priced apart")]
        if moe.expert.unpacking_bytes:
            parts = [*parts, *self._unpacking.parts(layer, _with_rows(rows, starts))]
        return parts

    def provenance(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``: parts of a dense network differ; unpacking rests on the datasheet."""
        layer, rows, starts, *tokens = shape
        if _moe(layer).expert.parts:
            own = [self.price(of, rows, starts, *tokens) for of in _by_part(layer)]
            whole = price_ns / np.maximum(np.sum(own, axis=0), 1.0)
            every = zip(_by_part(layer), own, strict=True)
            shares = [self.provenance(ns * whole, of, *shape[1:]) for of, ns in every]
            return np.asarray(np.sum(shares, axis=0), np.float64)
        if not _moe(layer).chooses:
            return provenance_of(price_ns, self.parts(*shape))
        if not _moe(layer).expert.unpacking_bytes:
            return super().provenance(price_ns, *shape)
        unpacking = self._unpacking.price(layer, _with_rows(rows, starts))
        whole = np.maximum(self.price(*shape), 1.0)
        of_price = price_ns * (unpacking / whole)
        found = by_source(price_ns - of_price, self.sources(*shape))
        found[Source.DATASHEET] += of_price.sum()
        return found

    def launch(
        self, layer: LayerSpec, rows: ArrayLike, starts: ArrayLike, tokens: Ints | None = None
    ) -> list[Part]:
        """As ``parts``, of kernels as they are measured: those of a fit reorder rows, too."""
        counts, members = _launches(rows, starts)
        moe, gpu = _moe(layer), self.gpu
        number = gpu.kernels("expert" if self.serial else "grouped", STARTS) + (
            OF_LOW_RANK if moe.expert.rank else 0
        )
        if not moe.chooses:
            total, size = group_sums(counts, members), self.model.activation_bytes
            network = gpu.network if moe.expert.rank else partial(ffn_parts, gpu)
            return network(moe.expert, total, size, number)
        if self._fits(moe):
            return where(members > 0, [self._fitted(moe).part(counts, members, tokens)])
        total, distinct = group_sums(counts, members), group_sums(np.sign(counts), members)
        if tokens is None:
            tokens = tokens_of(moe, total)
        tile = np.repeat(self._row_tile(moe, total, tokens), members)
        if self.batched:
            tile = gpu.row_tile(counts, moe.expert.dtype)
        efficient = group_sums(padded(counts, tile), members)
        efficient = efficient + np.where(total > 0, gpu.half_rows(moe.expert.dtype), 0)
        work = efficient * (2.0 * moe.expert.matrix_elements)
        apart = gpu.apart(tokens, moe.expert.dtype)
        read = np.where(apart, total, distinct) * float(moe.expert.bytes)
        moved = float(activation_elements(moe.expert) * self.model.activation_bytes)
        return [
            gpu.longest(read, work, moe.expert.dtype),
            gpu.moves(total * moved),
            gpu.starts(number, members > 0),
        ]

    def sources(
        self, layer: LayerSpec, rows: ArrayLike, starts: ArrayLike, tokens: Ints | None = None
    ) -> Source | Ints:
        """See ``Operation``."""
        if not (moe := _moe(layer)).chooses:
            return self.launch(layer, rows, starts)[0].source
        if not self._fits(moe):
            return Source.DATASHEET
        return self._fitted(moe).sources(*_launches(rows, starts), tokens)

    def tiles(self, layer: LayerSpec, number: Ints) -> TileTable | None:
        """See ``CostModel.expert_tiles``."""
        if self.batched or not (moe := _moe(layer)).chooses or moe.expert.parts:
            return None
        if self._fits(moe):
            return self._fitted(moe).tiles(number)
        tile = self._row_tile(moe, number, tokens_of(moe, number))
        return TileTable(tile, np.ones_like(number), False)

    def _row_tile(self, moe: MoeSpec, rows: Ints, tokens: Ints) -> Ints:
        """Rows of a tile of launches without a fit, of so many ``rows`` of all experts."""
        return self.gpu.row_tile(tokens, moe.expert.dtype, -(-rows // moe.experts))

    def _fits(self, moe: MoeSpec) -> bool:
        """Whether a fit prices the kernels; none is of matrices of low rank."""
        return not moe.expert.rank and bool(self._fitted(moe).fits)

    def _fitted(self, moe: MoeSpec) -> FittedLaunches:
        if moe not in self._launches:
            self._launches[moe] = FittedLaunches(
                self.hardware,
                moe,
                self.model.activation_bytes,
                serial=self.serial,
                start_ns=STARTS * self.gpu.start_ns,
                measured=self.measured,
                apart_ns=0.0 if self.serial else self._reorderings_ns,
            )
        return self._launches[moe]

    @property
    def _reorderings_ns(self) -> float:
        """The starts that a measured fused MoE layer contains, and that are priced apart here."""
        return REORDERINGS * self.gpu.start_ns


def _launches(rows: ArrayLike, starts: ArrayLike) -> tuple[Ints, Ints]:
    """The rows of all launches, and how many entries each launch has."""
    counts, first = np.asarray(rows, np.int64), np.asarray(starts, np.int64)
    members = np.diff(first, append=counts.size)
    assert (members >= 0).all(), "launches follow one another"
    return counts[first[0] :] if first.size else counts[:0], members


def _by_part(layer: LayerSpec) -> list[LayerSpec]:
    """The layer with each part of its experts alone."""
    moe = _moe(layer)
    return [replace(layer, moe=replace(moe, expert=one)) for one in moe.expert.parts]


def _with_rows(rows: ArrayLike, starts: ArrayLike) -> Ints:
    """Experts with rows of each launch."""
    counts, members = _launches(rows, starts)
    return group_sums(np.sign(counts), members)


def _moe(layer: LayerSpec) -> MoeSpec:
    assert layer.moe is not None, "a dense layer has no routed experts"
    return layer.moe
