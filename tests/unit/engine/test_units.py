"""Gate weights in whole units, from their bits."""

from __future__ import annotations

import numpy as np

from moesim.engine.routing import units
from moesim.memory.policy import WEIGHT_UNIT


def test_every_fp16_is_a_whole_number_of_units() -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    of_numbers = np.where(np.isfinite(values), values, 0) * WEIGHT_UNIT
    np.testing.assert_array_equal(units(), of_numbers)
