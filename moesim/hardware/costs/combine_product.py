"""Static gating's combine: a dense product of the masks with the experts' rows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation
from moesim.hardware.precision import activation_dtype
from moesim.hardware.roofline import Floats, padded, row_tile
from moesim.model.spec import LayerSpec


class CombineProduct(Operation):
    """2 x experts x capacity x tokens x hidden operations on activation-sized elements."""

    kind: ClassVar[str] = "combine_product"

    def price(
        self, _layer: LayerSpec, tokens: ArrayLike, experts: ArrayLike, capacity: ArrayLike
    ) -> Floats:
        """See ``CostModel.combine_product_ns``."""
        count, hidden = np.asarray(tokens, np.int64), self.model.hidden_size
        slots = np.asarray(experts, np.float64) * np.asarray(capacity, np.float64)
        size = self.model.activation_bytes
        work = (padded(count, row_tile(count)) + self.gpu.half_rows) * slots * (2.0 * hidden)
        moved = (count * slots + (count + slots) * hidden) * size
        dtype = activation_dtype(size)
        time = np.maximum(self.gpu.weights_ns(moved), self.gpu.operations_ns(work, dtype))
        return np.where(count * slots > 0, time + self.gpu.start_ns, 0.0)
