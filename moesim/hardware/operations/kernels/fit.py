"""Small kernels: launches, gates, reorderings, experts on the CPU; see ``work.py``."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from moesim.config.counted import counted
from moesim.hardware.fitting.amounts import read
from moesim.hardware.fitting.fitter import (
    About,
    Fitter,
    ranges_of,
)
from moesim.hardware.fitting.held_out import LEAST_SHAPES, groups, halves, summary
from moesim.hardware.fitting.logarithmic import Found, Prior, fit_logarithms
from moesim.hardware.measurements.columns import BYTES
from moesim.hardware.measurements.validate import Mask, flag, number
from moesim.hardware.operations.kernels.work import (
    KERNELS,
    KernelNumbers,
    KernelWork,
    kernel_ns,
)
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.calibrated import KernelFit
from moesim.hardware.profile import HardwareProfile

SCALE = 0.05
NAMES = ("start", "bandwidth", "compute", "overlap")
COLUMNS = ("tokens", "hidden", "inter", "experts", "top_k")
LEAST_POINTS = 6
ACTIVATION_BYTES = 2.0
HOST = ("cpu_expert",)
"""Ops that read the host's memory."""


class Kernels(Fitter):
    """Up to four numbers an op; an op without work has its start alone."""

    kind: ClassVar[str] = "kernels"
    ops: ClassVar[tuple[str, ...]] = tuple(KERNELS)

    def fit(self, table: pd.DataFrame, profile: HardwareProfile, about: About) -> KernelFit | str:
        """See ``Fitter``."""
        op = str(table["op"].iloc[0])
        needed = 1 if op == "launch" else LEAST_POINTS
        cold = ~flag(table, "l2_warm", default=False)
        table = table[cold].reset_index(drop=True) if cold.sum() >= needed else table
        shape = groups(table, COLUMNS)
        if len(table) < needed:
            points = counted(len(table), "point")
            return f"{op} {about.label}: {points}; a fit needs {needed} of other sizes"
        latency, work = number(table, "latency_ns"), work_of(table, op)
        prior = _prior(profile, op, work)
        every = np.ones(len(table), bool)
        found = _fit(latency, work, prior, every)
        estimates: dict[str, Any] = {
            name: {"value": read(name, value), "interval": [read(name, end) for end in ends]}
            for name, value, ends in zip(NAMES, found.numbers, found.ends.T.tolist(), strict=False)
        }
        return KernelFit(
            **about._asdict(),
            op=op,
            points=len(table),
            shapes=len(np.unique(shape)),
            held_out=None
            if len(np.unique(shape)) < LEAST_SHAPES
            else summary(_left_out(latency, work, prior, shape), shape),
            measured=ranges_of(table, COLUMNS),
            **estimates,
        )


def work_of(table: pd.DataFrame, op: str) -> KernelWork:
    """The work of rows with one ``op``."""
    shape: dict[str, Any] = {name: number(table, name, 1.0) for name in COLUMNS}
    shape["gated"] = flag(table, "gated")
    width = [BYTES.get(str(dtype), ACTIVATION_BYTES) for dtype in table["dtype"]]
    shape["element_bytes"] = np.array(width)
    shape["activation_bytes"] = np.maximum(shape["element_bytes"], ACTIVATION_BYTES)
    return KERNELS[op](shape)


def _prior(profile: HardwareProfile, op: str, work: KernelWork) -> Prior:
    """Around the datasheet; numbers without work to see them are left out."""
    sheet = profile.datasheet
    memory = profile.host.memory_bandwidth.value if op in HOST else sheet.memory_bandwidth.value
    peak = sheet.compute.fp32.value
    start = max(sheet.kernel_start.value, 1.0)
    rows = [(start, 1.0, 1.0, 1e7)]
    if work.size.any():
        rows.append((0.5 * memory, 0.7, 1e-3 * memory, memory))
    if work.operations.any():
        rows += [(0.5 * peak, 1.0, 1e-4 * peak, 16 * peak), (4.0, 0.7, 1.0, 20.0)]
    return Prior(*np.array(rows).T)


def _fit(latency: Floats, work: KernelWork, prior: Prior, mask: Mask) -> Found:
    part = KernelWork(work.size[mask], work.operations[mask])

    def price(numbers: Floats) -> Floats:
        return kernel_ns(KernelNumbers(*numbers.tolist()), part)

    return fit_logarithms(price, latency[mask], prior, SCALE)


def _left_out(latency: Floats, work: KernelWork, prior: Prior, shape: Any) -> Floats:
    """Price over measured of each row by the half of the shapes that it is not in."""
    ratio = np.ones(len(latency))
    for seen, unseen in halves(shape):
        numbers = KernelNumbers(*_fit(latency, work, prior, seen).numbers.tolist())
        part = KernelWork(work.size[unseen], work.operations[unseen])
        ratio[unseen] = kernel_ns(numbers, part) / latency[unseen]
    return ratio
