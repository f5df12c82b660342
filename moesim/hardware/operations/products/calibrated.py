"""A profile's fit of dense products, as the formula and the simulator take it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.card import card_of
from moesim.hardware.described.precision import SAME_UNITS
from moesim.hardware.operations.products.kernel import ProductNumbers, product_terms
from moesim.hardware.prices.arrays import NS
from moesim.hardware.prices.calibrated import ProductFit
from moesim.hardware.prices.parts import MEASURED, Amount, Detail, Part, tabled_source
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.roofline import Roofline
from moesim.model.spec import FfnSpec


def product_fit_for(profile: HardwareProfile, dtype: str) -> ProductFit | None:
    """The first fit of a format; bf16 stands for fp16 and the other way round."""
    fits = profile.calibrated.products if profile.calibrated else ()
    names = (dtype, SAME_UNITS.get(dtype))
    return next((fit for name in names for fit in fits if fit.dtype == name), None)


def product_numbers(fit: ProductFit, profile: HardwareProfile) -> ProductNumbers:
    """A fit's numbers: fractions of the datasheet's values."""
    assert fit.dtype is not None, "a product has a format"
    memory = profile.datasheet.memory_bandwidth.value
    return ProductNumbers(
        start_ns=fit.start.value,
        bandwidth=fit.bandwidth.value / memory,
        compute=fit.compute.value / profile.peak(fit.dtype),
        overlap=fit.overlap.value,
        activation_bandwidth=fit.activation_bandwidth.value / memory,
        block_ns=fit.block.value if fit.block else 0.0,
    )


class Weights(NamedTuple):
    """Matrices of ``k`` rows and ``n`` columns: numbers, or one for each product."""

    n: ArrayLike
    k: ArrayLike
    element_bytes: ArrayLike


class FittedProducts:
    """The products of one format by the profile's fit; false where there is none."""

    def __init__(self, profile: HardwareProfile, dtype: str) -> None:
        self.profile, self.dtype = profile, dtype
        self.fit = product_fit_for(profile, dtype)

    def __bool__(self) -> bool:
        return self.fit is not None

    def part(self, rows: ArrayLike, weights: Weights, name: str = "product") -> Part:
        """One launch for each of ``rows``, its start and activations included; 0 without rows.

        A table's launches may have found their weights in a cache: no price is below what reading
        them takes at the datasheet's bandwidth.
        """
        fit = self.fit
        assert fit is not None, "no fit, no price"
        m = np.asarray(rows, np.float64)
        n, k, width = (np.full(m.shape, value) for value in weights)
        numbers, peak = product_numbers(fit, self.profile), self.profile.peak(self.dtype)
        shape, card = (np.maximum(m, 1.0), n, k), card_of(self.profile)
        terms = product_terms(numbers, shape, width, np.full(m.shape, peak), card)
        columns = dict(zip(("m", "n", "k"), shape, strict=True))
        found, price = fit.table.at(columns) if fit.table else None, terms.total
        if found is not None:
            price = np.maximum(price * found.ratio, n * k * width * NS / card.bandwidth)

        def parts() -> Detail:
            inputs = {"quantising": terms.quantising} if numbers.block_ns else {}
            amounts = {
                "start": np.full(m.shape, numbers.start_ns),
                **inputs,
                "reading and moving (overlaps)": terms.memory,
                "computing (overlaps)": terms.compute,
                MEASURED: price - terms.total,
            }
            return Detail([Amount(name, time) for name, time in amounts.items()], fit)

        source = tabled_source(fit.measured, columns, found)
        return Part(np.where(m > 0, price, 0.0), source, name, parts)

    def network(self, rows: ArrayLike, network: FfnSpec) -> list[Part]:
        """The two products of a feed-forward network; gate and up are one."""
        first = network.intermediate_size * (2 if network.gated else 1)
        hidden, inner = network.hidden_size, network.intermediate_size
        width = network.bytes / (hidden * (first + inner))
        pairs = ((first, hidden), (hidden, inner))
        names = ("first product", "second product")
        return [
            self.part(rows, Weights(n, k, width), name)
            for (n, k), name in zip(pairs, names, strict=True)
        ]


def product_parts(
    gpu: Roofline, rows: ArrayLike, weights: Weights, dtype: str, activation_bytes: int
) -> list[Part]:
    """A product by itself, with its start and its activations; nothing without rows."""
    if fitted := FittedProducts(gpu.hardware, dtype):
        return [fitted.part(rows, weights)]
    count, (n, k, width) = np.asarray(rows, np.int64), (np.asarray(each) for each in weights)
    return [
        gpu.product(count, n * k, n * k * width, dtype),
        gpu.moves(count * ((k + n) * activation_bytes)),
        gpu.starts(1, count > 0),
    ]


def ffn_parts(
    gpu: Roofline, network: FfnSpec, rows: ArrayLike, activation_bytes: int, starts: int
) -> list[Part]:
    """A feed-forward network over ``rows``, with ``starts`` kernels; nothing without rows.

    Fitted products bring their own starts and activations, and what quantises their inputs; the
    kernel between them stays.
    """
    if not (fitted := FittedProducts(gpu.hardware, network.dtype)):
        return gpu.network(network, rows, activation_bytes, starts)
    count, products = np.asarray(rows, np.int64), fitted.network(rows, network)
    moved = network.intermediate_size * (3 if network.gated else 2) * activation_bytes
    more = gpu.starts(starts - len(products), count > 0)
    return [*products, gpu.moves(count * moved), more]
