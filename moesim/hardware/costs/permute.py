"""Reordering rows by expert, and restoring their order."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation
from moesim.hardware.roofline import Floats
from moesim.model.spec import LayerSpec


class Permute(Operation):
    """One kernel, bound by memory: every row is read and written."""

    kind: ClassVar[str] = "permute"

    def price(self, layer: LayerSpec, rows: ArrayLike) -> Floats:
        """See ``CostModel.permute_ns``."""
        count = np.asarray(rows, np.int64)
        hidden = layer.moe.expert.hidden_size if layer.moe else self.model.hidden_size
        traffic = self.gpu.activations_ns(count * (2 * hidden * self.model.activation_bytes))
        return np.where(count > 0, traffic + self.gpu.start_ns, 0.0)
