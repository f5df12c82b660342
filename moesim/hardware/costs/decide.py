"""A small kernel that decides on the device which copies start."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from moesim.hardware.operation import Operation
from moesim.hardware.roofline import Floats


class Decide(Operation):
    """One start-up."""

    kind: ClassVar[str] = "decide"

    def price(self) -> Floats:
        """See ``CostModel.decide_ns``."""
        return np.asarray(self.gpu.start_ns, np.float64)
