"""Small kernels: what each moves and computes, and its time from a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from moesim.hardware.prices.arrays import NS, Floats
from moesim.hardware.prices.calibrated import KernelFit
from moesim.hardware.prices.parts import Amount, Detail, Part
from moesim.hardware.prices.provenance import Source
from moesim.hardware.profile import HardwareProfile

LOGIT_BYTES = 16
"""Bytes a logit: fp32, written and read by the product and by softmax with top-k."""


class KernelWork(NamedTuple):
    """Bytes and operations of n kernels, each [n]."""

    size: Floats
    operations: Floats


class KernelNumbers(NamedTuple):
    """Nanoseconds, bytes and operations a second, and the exponent of their overlap."""

    start_ns: float
    bandwidth: float = np.inf
    compute: float = np.inf
    overlap: float = 4.0


Shape = Mapping[str, Floats]


def _launch(shape: Shape) -> KernelWork:
    nothing = np.zeros(np.shape(shape["tokens"]))
    return KernelWork(nothing, nothing)


def _gate(shape: Shape) -> KernelWork:
    tokens, hidden, experts = (shape[name] for name in ("tokens", "hidden", "experts"))
    moved = tokens * (hidden * shape["activation_bytes"] + LOGIT_BYTES * experts)
    weights = hidden * experts * shape["element_bytes"]
    return KernelWork(weights + moved, 2 * tokens * hidden * experts)


def _permute(shape: Shape) -> KernelWork:
    rows = shape["tokens"] * shape["top_k"]
    moved = 2 * rows * shape["hidden"] * shape["activation_bytes"]
    return KernelWork(moved, np.zeros(np.shape(moved)))


def _cpu_expert(shape: Shape) -> KernelWork:
    elements = shape["hidden"] * shape["inter"] * np.where(shape["gated"], 3, 2)
    return KernelWork(elements * shape["element_bytes"], 2 * shape["tokens"] * elements)


KERNELS: Mapping[str, Callable[[Shape], KernelWork]] = {
    "launch": _launch,
    "gate": _gate,
    "permute": _permute,
    "cpu_expert": _cpu_expert,
}
"""The work of each op; shapes are its columns, ``element_bytes`` those of a weight."""


def kernel_ns(numbers: KernelNumbers, work: KernelWork) -> Floats:
    """The time of each kernel."""
    memory, compute = _apart_ns(numbers, work)
    larger = np.maximum(np.maximum(memory, compute), 1e-9)
    smaller = np.minimum(memory, compute)
    together = larger * (1 + (smaller / larger) ** numbers.overlap) ** (1 / numbers.overlap)
    return np.asarray(numbers.start_ns + together, np.float64)


def _apart_ns(numbers: KernelNumbers, work: KernelWork) -> tuple[Floats, Floats]:
    return work.size * NS / numbers.bandwidth, work.operations * NS / numbers.compute


def kernel_part(fit: KernelFit, work: KernelWork, sharing: int = 1) -> Part:
    """The price of each kernel by a fit; ``sharing`` of them at once share its rates."""
    numbers = kernel_numbers(fit)
    rates = {"bandwidth": numbers.bandwidth / sharing, "compute": numbers.compute / sharing}
    numbers = numbers._replace(**rates)

    def terms() -> Detail:
        memory, compute = _apart_ns(numbers, work)
        start = np.full(np.shape(memory), numbers.start_ns)
        moving = Amount("moving (overlaps)", memory, work.size, "B", numbers.bandwidth)
        computing = Amount(
            "computing (overlaps)", compute, work.operations, "FLOP", numbers.compute
        )
        return Detail((Amount("start", start), moving, computing), fit)

    return Part(kernel_ns(numbers, work), Source.FITTED, f"{fit.op} kernel", terms)


def kernel_fit_for(profile: HardwareProfile, op: str) -> KernelFit | None:
    """The first fit of ``op``: the one with most points."""
    fits = profile.calibrated.kernels if profile.calibrated else ()
    return next((fit for fit in fits if fit.op == op), None)


def kernel_numbers(fit: KernelFit) -> KernelNumbers:
    """A fit's numbers as the formula takes them."""
    return KernelNumbers(
        fit.start.value,
        fit.bandwidth.value if fit.bandwidth else np.inf,
        fit.compute.value if fit.compute else np.inf,
        fit.overlap.value if fit.overlap else 4.0,
    )
