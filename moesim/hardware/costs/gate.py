"""The router of a MoE layer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation
from moesim.hardware.precision import dtype_of
from moesim.hardware.roofline import Floats
from moesim.model.spec import LayerSpec

STARTS = 2
"""The product; softmax and top-k in one kernel."""
LOGIT_TRAFFIC = 16
"""Bytes a logit: fp32, written and read by the product and by softmax with top-k."""


class Gate(Operation):
    """The roofline of the router's weights, the hidden state, and fp32 logits."""

    kind: ClassVar[str] = "gate"

    def price(self, layer: LayerSpec, tokens: ArrayLike) -> Floats:
        """See ``CostModel.gate_ns``."""
        count, moe = np.asarray(tokens, np.int64), layer.moe
        if moe is None:
            return np.zeros(count.shape)
        dtype = dtype_of(moe.router_parameters, moe.router_bytes)
        time = self.gpu.product_ns(count, moe.router_parameters, moe.router_bytes, dtype)
        hidden = self.model.hidden_size * self.model.activation_bytes
        time = time + self.gpu.activations_ns(count * (hidden + LOGIT_TRAFFIC * moe.experts))
        return np.where(count > 0, time + STARTS * self.gpu.start_ns, 0.0)
