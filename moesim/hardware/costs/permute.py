"""Reordering rows by expert, and restoring their order."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.basis import by_source
from moesim.hardware.kernel_work import KERNELS, kernel_fit_for, kernel_ns, kernel_numbers
from moesim.hardware.operation import Operation
from moesim.hardware.parts import fitted_source
from moesim.hardware.roofline import Floats
from moesim.model.spec import LayerSpec


class Permute(Operation):
    """One kernel, bound by memory: every row is read and written; by its fit where there is one."""

    kind: ClassVar[str] = "permute"

    def price(self, layer: LayerSpec, rows: ArrayLike) -> Floats:
        """See ``CostModel.permute_ns``."""
        count, hidden = np.asarray(rows, np.int64), self._hidden(layer)
        size = self.model.activation_bytes
        if fit := kernel_fit_for(self.hardware, "permute"):
            values: dict[str, Any] = {"tokens": count, "hidden": hidden, "activation_bytes": size}
            each = {name: np.full(count.shape, value, float) for name, value in values.items()}
            work = KERNELS["permute"](each | {"top_k": np.ones(count.shape)})
            return np.where(count > 0, kernel_ns(kernel_numbers(fit), work), 0.0)
        traffic = self.gpu.activations_ns(count * (2 * hidden * size))
        return np.where(count > 0, traffic + self.gpu.start_ns, 0.0)

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``. A fit saw up to its tokens x top-k rows."""
        layer, rows = shape
        if (fit := kernel_fit_for(self.hardware, "permute")) is None:
            return super().rests_on(price_ns, *shape)
        least, largest = fit.measured.get("tokens", (1, 1))
        fewest, most = fit.measured.get("top_k", (1, 1))
        ranges = fit.measured | {"rows": (least * fewest, largest * most)}
        columns = {"rows": rows, "hidden": self._hidden(layer)}
        return by_source(price_ns, fitted_source(ranges, columns))

    def _hidden(self, layer: LayerSpec) -> int:
        return layer.moe.expert.hidden_size if layer.moe else self.model.hidden_size
