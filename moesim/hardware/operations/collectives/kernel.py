"""Collectives: what each moves, its time from a fit, and a profile's fits as curves over bytes.

``bytes`` are what one GPU holds, its own part included. Of g GPUs each sends bytes x (g - 1) / g in
an all-to-all, and twice that in an all-reduce; nccl-tests' bus bandwidth is over these too.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.described.datasheet import Peers
from moesim.hardware.prices.arrays import NS, Floats
from moesim.hardware.prices.calibrated import Calibrated, CollectiveFit
from moesim.hardware.prices.parts import Amount, Detail, Part
from moesim.hardware.prices.transfer_curve import Curve, TransferTerms

ROUNDS: Mapping[str, int] = {"all_reduce": 2, "all_to_all": 1}
"""How often a GPU sends what it holds."""


def sending(size: ArrayLike, rate: int, peers: Peers) -> Part:
    """``size`` bytes of a GPU at ``rate``, a share of its link's bandwidth."""
    amount = np.asarray(size, np.float64)
    time, peak = amount * NS / rate, peers.bandwidth.value
    sent = Amount("bytes", time, amount, "B", peak, rate / peak)
    return Part(time, name="bytes", of=lambda: Detail((sent,)))


class CollectiveNumbers(NamedTuple):
    """Nanoseconds of two GPUs and of each further one; bytes a second of two and its factor at a
    doubling; nanoseconds and bytes of the fill (``transfer_curve``).
    """

    start_ns: float
    step_ns: float
    bandwidth: float
    scaling: float
    fill_ns: float
    half_bytes: float


def bus_bandwidth(numbers: CollectiveNumbers, gpus: ArrayLike) -> Floats:
    """Bytes a second that each of ``gpus`` sends."""
    doublings = np.log2(np.asarray(gpus, np.float64) / 2)
    return np.asarray(numbers.bandwidth * numbers.scaling**doublings, np.float64)


def collective_terms(
    numbers: CollectiveNumbers, rounds: int, gpus: ArrayLike, size: ArrayLike
) -> TransferTerms:
    """The formula's terms for ``size`` bytes among ``gpus``, at least two."""
    count, amount = np.asarray(gpus, np.float64), np.asarray(size, np.float64)
    moving = rounds * amount * (count - 1) / count * (NS / bus_bandwidth(numbers, count))
    filled = amount / (amount + numbers.half_bytes)
    starting = np.broadcast_to(numbers.start_ns + numbers.step_ns * (count - 2), moving.shape)
    return TransferTerms(starting, moving, numbers.fill_ns * filled)


def collective_ns(
    numbers: CollectiveNumbers, rounds: int, gpus: ArrayLike, size: ArrayLike
) -> Floats:
    """The formula's time of ``size`` bytes among ``gpus``, at least two."""
    return collective_terms(numbers, rounds, gpus, size).total


def collective_fit_for(calibrated: Calibrated | None, op: str) -> CollectiveFit | None:
    """The first fit of ``op``: the one with most points."""
    fits = calibrated.collectives if calibrated else ()
    return next((fit for fit in fits if fit.op == op), None)


def collective_numbers(fit: CollectiveFit) -> CollectiveNumbers:
    """A fit's numbers as the formula takes them."""
    return CollectiveNumbers(
        start_ns=fit.start.value,
        step_ns=fit.step.value,
        bandwidth=fit.bandwidth.value,
        scaling=fit.scaling.value,
        fill_ns=fit.fill.value,
        half_bytes=float(fit.half.value),
    )


def collective_curve(fit: CollectiveFit, gpus: int, measured: bool = True) -> Curve:
    """The curve of ``gpus``; ``measured``: with the sizes measured, if that many were."""
    numbers, rounds = collective_numbers(fit), ROUNDS[fit.op]
    own = (ratios for ratios in fit.ratios if ratios.gpus == gpus and measured)
    least, most = fit.measured["gpus"]
    seen = fit.measured["bytes"] if least <= gpus <= most else NOTHING
    most_bytes = float(bus_bandwidth(numbers, gpus)) * gpus / (rounds * (gpus - 1))
    terms = partial(collective_terms, numbers, rounds, gpus)
    return Curve(fit, terms, most_bytes, next(own, None), seen)


NOTHING = (1, 0)
"""The range of a number of GPUs that was not measured."""
