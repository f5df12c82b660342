"""Collectives of one node: the formula of ``kernel.py`` and its points."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from moesim.config.counted import counted
from moesim.hardware.fitting.fitter import About, Fitter, ranges_of
from moesim.hardware.fitting.held_out import groups
from moesim.hardware.fitting.logarithmic import Prior
from moesim.hardware.fitting.transfers import (
    estimates,
    fit_transfers,
    held_out,
    size_ratios,
)
from moesim.hardware.measurements.validate import number
from moesim.hardware.operations.collectives.kernel import (
    ROUNDS,
    CollectiveNumbers,
    collective_ns,
)
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.calibrated import CollectiveFit
from moesim.hardware.profile import HardwareProfile

NAMES = ("start", "step", "bandwidth", "scaling", "fill", "half")
HALF = NAMES.index("half")
LEAST_POINTS = 6
SLACK = 2.0
"""Over the bandwidth of one GPU: a switch that adds halves what an all-reduce sends."""


class Collectives(Fitter):
    """Six numbers an op. The format of what is moved makes no difference: rows of all are one."""

    kind: ClassVar[str] = "collectives"
    ops: ClassVar[tuple[str, ...]] = tuple(ROUNDS)
    apart: ClassVar[tuple[str, ...]] = ()

    def fit(
        self, table: pd.DataFrame, profile: HardwareProfile, about: About
    ) -> CollectiveFit | str:
        """See ``Fitter``."""
        op = str(table["op"].iloc[0])
        table = table[number(table, "gpus") > 1].reset_index(drop=True)
        if len(table) < LEAST_POINTS:
            points = counted(len(table), "point")
            return f"{op} {about.label}: {points}; a fit needs {LEAST_POINTS} sizes"
        prior = _prior(profile)
        found = fit_transfers(_formula, table, prior, HALF)
        return CollectiveFit(
            **about._asdict(),
            op=op,
            points=len(table),
            shapes=len(np.unique(groups(table, ("bytes", "gpus")))),
            **held_out(_formula, table, prior, HALF)._asdict(),
            measured=ranges_of(table, ("bytes", "gpus")),
            ratios=size_ratios(table, _formula(found.numbers, table)),
            **estimates(NAMES, found),
        )


def _formula(numbers: Floats, table: pd.DataFrame) -> Floats:
    rounds = ROUNDS[str(table["op"].iloc[0])]
    found = CollectiveNumbers(*numbers.tolist())
    return collective_ns(found, rounds, number(table, "gpus"), number(table, "bytes"))


def _prior(profile: HardwareProfile) -> Prior:
    """Around the datasheet's latency and bandwidth; the bandwidth may grow or fall with GPUs."""
    peers = profile.datasheet.peers
    start, most = max(peers.latency.value, 10.0), SLACK * peers.bandwidth.value
    rows = [
        (0.5 * start, 1.0, 1.0, 1e7),
        (0.05 * start, 1.5, 1.0, 1e7),
        (float(peers.all_to_all_bytes_per_second), 0.5, 1e-3 * most, most),
        (1.0, 0.5, 0.1, 2.0),
        (0.5 * start, 1.5, 1.0, 1e8),
        (1e6, 2.0, 256.0, 1e10),
    ]
    return Prior(*np.array(rows).T)
