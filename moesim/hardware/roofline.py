"""The roofline: what a kernel takes that is bound by memory or by its products.

A kernel takes start-ups + max(weight bytes / bandwidth, operations / rate) + activation bytes /
activation bandwidth, each rate a share of the datasheet's peak. Products are made in tiles of
rows: rows are padded to the tile, and ``half_efficient_rows`` more are paid once a kernel, so that
the efficiency is rows / (rows + half). Both keep the price monotone in rows. llama.cpp's kernels of
packed weights have tiles of their own in place of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moesim.hardware.prices.arrays import NS, Floats, Ints
from moesim.hardware.prices.parts import Amount, Detail, Part, where
from moesim.hardware.row_tiles import WHOLE, padded, tiling, tokens_apart, triton

if TYPE_CHECKING:
    from moesim.hardware.described.kernel_counts import KernelCounts
    from moesim.hardware.profile import HardwareProfile
    from moesim.model.spec import FfnSpec, LayerSpec


def activation_elements(network: FfnSpec) -> int:
    """Activation elements a row that the network's kernels read and write.

    The input, the joint output of gate and up, the product of both, the output, each written and
    read once; of matrices of low rank what is between their two products, too.
    """
    first = network.intermediate_size * (2 if network.gated else 1)
    between = network.rank * (3 if network.gated else 2)
    return 2 * (2 * network.hidden_size + first + network.intermediate_size + between)


def _small_kernels(hardware: HardwareProfile) -> tuple[float, KernelCounts | None]:
    """The start of a kernel, and how many the software runs where it says so: measured in a graph,
    where the host is no part of it, if possible; else by the software, or the datasheet.
    """
    fits = hardware.calibrated.kernels if hardware.calibrated else ()
    launches = sorted(
        (fit for fit in fits if fit.op == "launch"), key=lambda f: f.kernel != "graph"
    )
    if not launches and (told := hardware.small_kernels):
        return told.start_ns, told.counts
    return float((launches[0].start if launches else hardware.datasheet.kernel_start).value), None


class Roofline:
    """The rates of one GPU, from its datasheet; starts are measured ones where there are some."""

    def __init__(self, hardware: HardwareProfile) -> None:
        sheet = hardware.datasheet
        self.hardware = hardware
        self.start_ns, self._counts = _small_kernels(hardware)
        self._half_rows = sheet.half_efficient_rows.value
        self.compute_fraction = sheet.compute_fraction.value
        self.bandwidth = sheet.memory_bandwidth.value * sheet.bandwidth_fraction.value
        self.activation_bandwidth = (
            sheet.memory_bandwidth.value * sheet.activation_bandwidth_fraction.value
        )
        self._caches = (hardware.head_reads or 0) * sheet.multiprocessors.value * sheet.clock_hz
        self._tiling = tiling(hardware.row_tiles, sheet.maker)
        self._apart = tokens_apart(hardware.row_tiles, sheet.maker)

    def kernels(self, part: str, own: int, layer: LayerSpec | None = None) -> int:
        """Kernels of a ``part`` of a ``layer``, or of any (see ``KernelCounts``): the software's,
        or ``own``.
        """
        counts = self._counts
        if counts is None:
            return own
        found: int = getattr(counts if layer is None else counts.of_layer(layer), part)
        return found

    def row_tile(self, tokens: ArrayLike, dtype: str, rows: ArrayLike | None = None) -> Ints:
        """Rows of a tile of launches of ``tokens``, whose matrices of ``dtype`` have so many
        ``rows`` each in the mean; all, if left out.
        """
        count, rule = np.asarray(tokens, np.int64), triton if dtype in WHOLE else self._tiling
        return rule(count, count if rows is None else np.asarray(rows, np.int64))

    def half_rows(self, dtype: str) -> int:
        """Rows that a kernel of weights of ``dtype`` pays once; none in tiles of its own."""
        return self._half_rows if dtype in WHOLE or self._tiling is triton else 0

    def apart(self, tokens: ArrayLike, dtype: str) -> NDArray[np.bool_]:
        """Launches of ``tokens`` that read weights of ``dtype`` again for each of their rows."""
        return np.asarray((np.asarray(tokens) <= self._apart) & (dtype not in WHOLE))

    def weights_ns(self, size: ArrayLike, share: float = 1.0) -> Floats:
        """Time to read ``size`` bytes of weights, or of the KV cache at a ``share`` of their
        bandwidth.
        """
        return np.asarray(size, np.float64) * (NS / (self.bandwidth * share))

    def activations_ns(self, size: ArrayLike) -> Floats:
        """Time to move ``size`` bytes of activations."""
        return np.asarray(size, np.float64) * (NS / self.activation_bandwidth)

    def operations_ns(self, operations: ArrayLike, dtype: str) -> Floats:
        """Time of ``operations`` in the units for ``dtype``, at the rate of a large product."""
        rate = self.hardware.rate(dtype) * self.compute_fraction
        return np.asarray(operations, np.float64) * (NS / rate)

    def starts(self, number: ArrayLike, runs: ArrayLike = True) -> Part:
        """The starts of ``number`` kernels, where it ``runs``."""
        return Part(np.where(runs, np.asarray(number) * self.start_ns, 0.0), name="starts")

    def reads(self, size: ArrayLike, name: str = "reads", share: float = 1.0) -> Part:
        """``size`` bytes of weights, of the KV cache or of tensors made by large kernels."""
        reached = share * self.hardware.datasheet.bandwidth_fraction.value
        return self._traffic(name, self.weights_ns(size, share), size, reached)

    def moves(self, size: ArrayLike, name: str = "moves") -> Part:
        """``size`` bytes of activations."""
        share = self.hardware.datasheet.activation_bandwidth_fraction.value
        return self._traffic(name, self.activations_ns(size), size, share)

    def longest(
        self,
        size: ArrayLike,
        operations: ArrayLike,
        dtype: str,
        name: str = "reads and products",
        shares: tuple[float, ArrayLike] = (1.0, 1.0),
        cached: ArrayLike | None = None,
    ) -> Part:
        """The longest of reading ``size`` bytes, of ``operations`` in the units for ``dtype``, at
        ``shares`` of the bandwidth of weights and of the rate of large products, and of reading
        ``cached`` bytes from caches (``head_reads``), if given.
        """
        share, rates = shares[0], np.asarray(shares[1], np.float64)
        read, computed = self.weights_ns(size, share), self.operations_ns(operations, dtype) / rates
        again = None if cached is None else np.asarray(cached, np.float64) * (NS / self._caches)

        def both() -> Detail:
            amount, rate = np.asarray(operations, np.float64), self.hardware.rate(dtype)
            reached = self.compute_fraction * float(rates.min())
            products = Amount("products", computed, amount, "FLOP", rate, reached)
            amounts = (*self.reads(size, share=share).of().amounts, products)
            if again is None:
                return Detail(amounts)
            found = Amount("reads from caches", again, np.asarray(cached), "B", self._caches, 1.0)
            return Detail((*amounts, found))

        time = np.maximum(read, computed)
        return Part(time if again is None else np.maximum(time, again), name=name, of=both)

    def product(
        self,
        rows: ArrayLike,
        elements: ArrayLike,
        size: ArrayLike,
        dtype: str,
        name: str = "reads and products",
    ) -> Part:
        """Rows x weights: ``elements`` weights of ``dtype`` in ``size`` bytes.

        ``rows`` are padded here; no start-up. 0 where there are no rows.
        """
        count = np.asarray(rows, np.int64)
        work = (padded(count, self.row_tile(count, dtype)) + self.half_rows(dtype)) * (
            2.0 * np.asarray(elements)
        )
        (part,) = where(count > 0, [self.longest(size, work, dtype, name)])
        return part

    def network(
        self, network: FfnSpec, rows: ArrayLike, activation_bytes: int, starts: int
    ) -> list[Part]:
        """A feed-forward network over ``rows``, with ``starts`` kernels; nothing without rows."""
        count = np.asarray(rows, np.int64)
        return [
            self.product(count, network.matrix_elements, network.bytes, network.dtype),
            self.moves(count * (activation_elements(network) * activation_bytes)),
            self.starts(starts, count > 0),
        ]

    def _traffic(self, name: str, time_ns: Floats, size: ArrayLike, share: float) -> Part:
        def amount() -> Detail:
            peak = self.hardware.datasheet.memory_bandwidth.value
            return Detail((Amount(name, time_ns, np.asarray(size, np.float64), "B", peak, share),))

        return Part(time_ns, name=name, of=amount)
