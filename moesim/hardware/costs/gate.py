"""The router of a MoE layer."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.basis import by_source
from moesim.hardware.kernel_work import (
    KERNELS,
    KernelWork,
    kernel_fit_for,
    kernel_ns,
    kernel_numbers,
)
from moesim.hardware.operation import Operation
from moesim.hardware.parts import fitted_source
from moesim.hardware.precision import dtype_of
from moesim.hardware.roofline import Floats, Ints
from moesim.model.spec import LayerSpec, MoeSpec

STARTS = 2
"""The product; softmax and top-k in one kernel."""
LOGIT_TRAFFIC = 16
"""Bytes a logit: fp32, written and read by the product and by softmax with top-k."""


class Gate(Operation):
    """The roofline of the router's weights, the hidden state, and fp32 logits.

    Where the profile has a fit of gates, that alone.
    """

    kind: ClassVar[str] = "gate"

    def price(self, layer: LayerSpec, tokens: ArrayLike) -> Floats:
        """See ``CostModel.gate_ns``."""
        count, moe = np.asarray(tokens, np.int64), layer.moe
        if moe is None:
            return np.zeros(count.shape)
        if fit := kernel_fit_for(self.hardware, "gate"):
            return np.where(count > 0, kernel_ns(kernel_numbers(fit), self._work(moe, count)), 0.0)
        dtype = dtype_of(moe.router_parameters, moe.router_bytes)
        time = self.gpu.product_ns(count, moe.router_parameters, moe.router_bytes, dtype)
        hidden = self.model.hidden_size * self.model.activation_bytes
        time = time + self.gpu.activations_ns(count * (hidden + LOGIT_TRAFFIC * moe.experts))
        return np.where(count > 0, time + STARTS * self.gpu.start_ns, 0.0)

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``."""
        layer, tokens = shape
        if layer.moe is None or (fit := kernel_fit_for(self.hardware, "gate")) is None:
            return super().rests_on(price_ns, *shape)
        columns = {"hidden": self.model.hidden_size, "experts": layer.moe.experts}
        return by_source(price_ns, fitted_source(fit.measured, columns | {"tokens": tokens}))

    def _work(self, moe: MoeSpec, count: Ints) -> KernelWork:
        values = {
            "hidden": self.model.hidden_size,
            "experts": moe.experts,
            "element_bytes": moe.router_bytes / max(moe.router_parameters, 1),
            "activation_bytes": self.model.activation_bytes,
        }
        each = {name: np.full(count.shape, float(value)) for name, value in values.items()}
        return KERNELS["gate"](each | {"tokens": count.astype(np.float64)})
