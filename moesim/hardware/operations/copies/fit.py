"""Copies between host and GPU or between GPUs: the formula of ``transfer_curve`` and its points."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from moesim.hardware.fitting.fitter import About, Fitter, ranges_of
from moesim.hardware.fitting.logarithmic import Prior
from moesim.hardware.fitting.transfers import (
    estimates,
    fit_transfers,
    held_out,
    size_ratios,
)
from moesim.hardware.measurements.validate import flag, number
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.calibrated import CopyFit
from moesim.hardware.prices.transfer_curve import TransferNumbers, transfer_ns
from moesim.hardware.profile import HardwareProfile

NAMES = ("start", "bandwidth", "fill", "half")
HALF = NAMES.index("half")
SLACK = 1.02
"""Over the slot's raw bandwidth, for sizes and times that were rounded."""


class Copies(Fitter):
    """Four numbers for each direction, kind of host memory and number of GPUs that copy at once.

    A number that too few sizes show stays near the datasheet's. Rows with a warm cache are left out
    where there are others.
    """

    kind: ClassVar[str] = "copies"
    ops: ClassVar[tuple[str, ...]] = ("copy_h2d", "copy_d2h", "copy_p2p")
    apart: ClassVar[tuple[str, ...]] = ("pinned", "gpus")

    def fit(self, table: pd.DataFrame, profile: HardwareProfile, about: About) -> CopyFit | str:
        """See ``Fitter``."""
        op, pinned = str(table["op"].iloc[0]), bool(flag(table, "pinned")[0])
        warm = flag(table, "l2_warm", default=False)
        table = table if warm.all() else table[~warm].reset_index(drop=True)
        prior = _prior(profile, op, pinned)
        found = fit_transfers(_formula, table, prior, HALF)
        return CopyFit(
            **about._asdict(),
            op=op,
            pinned=pinned,
            points=len(table),
            shapes=int(table["bytes"].nunique()),
            **held_out(_formula, table, prior, HALF)._asdict(),
            measured=ranges_of(table, ("bytes", "gpus")),
            ratios=size_ratios(table, _formula(found.numbers, table)),
            **estimates(NAMES, found),
        )


def _formula(numbers: Floats, table: pd.DataFrame) -> Floats:
    return transfer_ns(TransferNumbers(*numbers.tolist()), number(table, "bytes"))


def _prior(profile: HardwareProfile, op: str, pinned: bool) -> Prior:
    """Around the datasheet's latency and bandwidth."""
    sheet = profile.datasheet
    start, bandwidth, most = sheet.peers.latency.value, sheet.peers.bandwidth.value, np.inf
    if op != "copy_p2p":
        kinds = sheet.copies.h2d if op == "copy_h2d" else sheet.copies.d2h
        kind = kinds.pinned if pinned else kinds.pageable
        start, bandwidth, most = kind.latency.value, kind.bandwidth.value, sheet.pcie.value
    most = min(most, 2 * bandwidth) if op == "copy_p2p" else most
    start = max(start, 10.0)
    rows = [
        (start, 1.0, 1.0, 1e7),
        (bandwidth, 0.7, 1e-3 * bandwidth, SLACK * most),
        (0.1 * start, 1.5, 1.0, 1e7),
        (65_536.0, 2.0, 16.0, 1e9),
    ]
    return Prior(*np.array(rows).T)
