"""Which measured launches of experts a fit uses: those that read their weights from memory."""

from __future__ import annotations

import numpy as np
import pandas as pd

from moesim.hardware.fitting.fitter import LEAST_POINTS
from moesim.hardware.measurements.validate import Mask, number
from moesim.hardware.operations.experts.fit_shapes import ExpertShapes
from moesim.hardware.profile import HardwareProfile

LARGEST_TOKENS = 4096
MOST_SLICES = 8
"""Beyond the GPUs of a node nobody slices experts."""
WARM = 1.05
"""Touched expert bytes up to this share of the L2 cache may have been read from it."""


def used_rows(
    table: pd.DataFrame, shapes: ExpertShapes, profile: HardwareProfile, *, sliced: bool = False
) -> Mask:
    """The rows to fit: unsliced, not warm in L2, up to 4096 tokens; evenly spread if there are
    enough of these, else those with listed rows too. ``sliced``: slices for a node and all tokens
    too, of kernels that were measured on the experts of one model.
    """
    usable, slices = _cold(table, shapes, profile), number(table, "tensor_parallel", 1.0)
    if sliced:
        usable &= slices <= MOST_SLICES
    else:
        usable &= shapes.tokens <= LARGEST_TOKENS
        whole = usable & (slices == 1)
        usable = whole if whole.sum() >= LEAST_POINTS else usable
    even = usable & ~shapes.listed
    return np.asarray(even if even.sum() >= LEAST_POINTS else usable)


def tabulated(table: pd.DataFrame, shapes: ExpertShapes, profile: HardwareProfile) -> Mask:
    """The rows whose ratios are kept: cold ones, of any size; evenly spread where there are any.
    Slices for the GPUs of a node, at tokens that are a power of two.
    """
    sliced = number(table, "tensor_parallel", 1.0)
    power = (shapes.tokens & (shapes.tokens - 1)) == 0
    kept = (sliced == 1) | ((sliced <= MOST_SLICES) & power)
    cold = _cold(table, shapes, profile) & kept
    even: Mask = cold & ~shapes.listed
    return even if even.any() else cold


def _cold(table: pd.DataFrame, shapes: ExpertShapes, profile: HardwareProfile) -> Mask:
    """A table's own word counts; where it says nothing, experts beyond the L2 cache are cold."""
    warm = number(table, "l2_warm")
    beyond: Mask = shapes.touched_bytes > WARM * profile.datasheet.l2.value
    return np.asarray(np.where(np.isnan(warm), beyond, warm == 0), bool)
