"""Where each choice goes in its expert's room: positions by running counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.prices.parts import Part
from moesim.hardware.roofline import Roofline
from moesim.model.spec import LayerSpec

POSITION_TRAFFIC = 130
"""Bytes of memory traffic an element of tokens x experts, for each choice of a token: its one-hot
integers of 8 bytes, their running counts, the comparison with the capacity, products and sums
(counted in fairseq's gate, approximate)."""


def positions(gpu: Roofline, layer: LayerSpec, tokens: ArrayLike, experts: ArrayLike) -> Part:
    """The traffic of the positions of all choices; their kernels are bound by memory."""
    choices = layer.moe.top_k if layer.moe else 0
    elements = np.asarray(tokens, np.float64) * np.asarray(experts, np.float64)
    return gpu.reads(elements * (choices * POSITION_TRAFFIC), "positions")
