"""Permuting rows by expert, and back."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.kernels.work import KERNELS, kernel_fit_for, kernel_part
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part, fitted_source, where
from moesim.hardware.prices.provenance import Source
from moesim.model.spec import LayerSpec


class Permute(Operation):
    """One kernel, bound by memory: every row is read and written; by its fit where there is one."""

    kind: ClassVar[str] = "permute"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.PERMUTE,
            "gate",
            lambda layer, at: (layer, at.rows),
            "permute rows",
            lambda setting, layer: setting.uneven and layer.moe is not None,
            by_routing=True,
        ),
        Charge(
            Stage.AFTER,
            "dispatch_combine",
            lambda layer, at: (layer, at.rows),
            "unpermute",
            lambda setting, layer: not setting.masks and layer.moe is not None,
            by_routing=True,
        ),
    )

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits((kernel_fit_for(self.hardware, self.kind),))

    def parts(self, layer: LayerSpec, rows: ArrayLike) -> list[Part]:
        """See ``CostModel.permute_ns``."""
        count, hidden = np.asarray(rows, np.int64), self._hidden(layer)
        size = self.model.activation_bytes
        if fit := kernel_fit_for(self.hardware, "permute"):
            values: dict[str, Any] = {"tokens": count, "hidden": hidden, "activation_bytes": size}
            each = {name: np.full(count.shape, value, float) for name, value in values.items()}
            work = KERNELS["permute"](each | {"top_k": np.ones(count.shape)})
            return where(count > 0, [kernel_part(fit, work)])
        return [self.gpu.moves(count * (2 * hidden * size)), self.gpu.starts(1, count > 0)]

    def sources(self, layer: LayerSpec, rows: ArrayLike) -> Source | Ints:
        """See ``Operation``. A fit saw up to its tokens x top-k rows."""
        if (fit := kernel_fit_for(self.hardware, "permute")) is None:
            return Source.DATASHEET
        least, largest = fit.measured.get("tokens", (1, 1))
        fewest, most = fit.measured.get("top_k", (1, 1))
        ranges = fit.measured | {"rows": (least * fewest, largest * most)}
        return fitted_source(ranges, {"rows": np.asarray(rows), "hidden": self._hidden(layer)})

    def _hidden(self, layer: LayerSpec) -> int:
        return layer.moe.expert.hidden_size if layer.moe else self.model.hidden_size
