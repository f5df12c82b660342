"""The time of a transfer by its bytes: a formula, and what was measured at some sizes.

The formula is start + bytes / bandwidth + fill x bytes / (bytes + half). The last term is what a
pipeline of blocks costs until it is full: staging through pinned memory, or the step from a
collective's low-latency protocol to its wide one. Every term grows with the bytes.

Between two measured sizes the logarithm of the time is linear in the logarithm of the formula's
time, so the formula keeps its shape. A time that a larger size beats is taken down to it, and no
transfer is faster than the fastest rate measured: a price never falls where bytes are added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.prices.arrays import NS, Floats, Ints
from moesim.hardware.prices.calibrated import SizeRatios, TransferFit
from moesim.hardware.prices.parts import MEASURED, Amount, Detail, Part
from moesim.hardware.prices.provenance import Source


class TransferNumbers(NamedTuple):
    """Nanoseconds, bytes a second, nanoseconds and bytes."""

    start_ns: float
    bandwidth: float
    fill_ns: float
    half_bytes: float


class TransferTerms(NamedTuple):
    """Nanoseconds of n transfers, each [n]; their sum is the formula's time."""

    start: Floats
    moving: Floats
    filling: Floats

    @property
    def total(self) -> Floats:
        """The formula's time."""
        return np.asarray(self.start + self.moving + self.filling, np.float64)


def transfer_terms(numbers: TransferNumbers, size: Floats) -> TransferTerms:
    """The formula's terms for ``size`` bytes."""
    filled = size / (size + numbers.half_bytes)
    moving = size * (NS / numbers.bandwidth)
    start = np.full(np.shape(size), numbers.start_ns)
    return TransferTerms(start, moving, numbers.fill_ns * filled)


def transfer_ns(numbers: TransferNumbers, size: Floats) -> Floats:
    """The formula's time of ``size`` bytes."""
    return transfer_terms(numbers, size).total


class Known(NamedTuple):
    """Ascending ``sizes`` in bytes, and of each the formula's nanoseconds and the ones known."""

    sizes: Floats
    formula: Floats
    times: Floats


def rising(times: Floats) -> Floats:
    """Times of ascending sizes, none above that of a larger one."""
    return np.asarray(np.minimum.accumulate(times[::-1])[::-1], np.float64)


def through(size: Floats, formula: Floats, known: Known) -> Floats:
    """Nanoseconds of ``size`` bytes [n], of which the formula says ``formula``."""
    at, times = np.log(known.formula), np.log(known.times)
    between = np.exp(np.interp(np.log(formula), at, times))
    time = np.where(size < known.sizes[0], np.minimum(formula, between), between)
    return np.where(size > known.sizes[-1], np.maximum(formula, between), time)


class Curve:
    """Prices by bytes; ``bandwidth`` is what the formula tends to in bytes a second.

    ``terms`` are the formula's, of ``fit``. ``ratios``: None where no size was measured; ``seen``:
    the least and the largest bytes that the fit saw. ``rate``: bytes a second that no size exceeds.
    """

    def __init__(
        self,
        fit: TransferFit,
        terms: Callable[[Floats], TransferTerms],
        bandwidth: float,
        ratios: SizeRatios | None,
        seen: tuple[int, int],
    ) -> None:
        self.fit, self.terms, self.seen = fit, terms, seen
        self.sizes = np.array(ratios.bytes if ratios else (), np.float64)
        times = self.formula(self.sizes) * np.array(ratios.ratio if ratios else (), np.float64)
        self.times = rising(times)
        self.rate = max([bandwidth, *(self.sizes * NS / self.times).tolist()])

    def formula(self, size: Floats) -> Floats:
        """The formula's nanoseconds of ``size`` bytes [n]."""
        return self.terms(size).total

    def part(self, size: ArrayLike) -> Part:
        """The price of ``size`` bytes [n], with the formula's terms."""
        price = self.price(size)

        def terms() -> Detail:
            formula = self.terms(np.asarray(size, np.float64))
            named = {
                "start": formula.start,
                "bytes over bandwidth": formula.moving,
                "filling": formula.filling,
                MEASURED: price - formula.total,
            }
            return Detail([Amount(name, time) for name, time in named.items()], self.fit)

        return Part(price, Source.FITTED, f"{self.fit.op}", terms)

    def price(self, size: ArrayLike) -> Floats:
        """Nanoseconds of ``size`` bytes [n]; those of no bytes are the start."""
        amount = np.asarray(size, np.float64)
        formula = self.formula(amount)
        if not len(self.sizes):
            return formula
        time = through(amount, formula, Known(self.sizes, self.formula(self.sizes), self.times))
        return np.asarray(np.maximum(time, amount * (NS / self.rate)), np.float64)

    def sources(self, size: ArrayLike) -> Ints:
        """What the prices of ``size`` rest on, ``Source`` codes [n]."""
        amount = np.asarray(size, np.float64)
        least, largest = self.seen
        inside = (amount >= least) & (amount <= largest)
        found = np.where(inside, Source.FITTED, Source.OUTSIDE)
        if len(self.sizes):
            between = (amount >= self.sizes[0]) & (amount <= self.sizes[-1])
            found = np.where(between, Source.INTERPOLATED, found)
        return np.where(np.isin(amount, self.sizes), Source.MEASURED, found).astype(np.int64)
