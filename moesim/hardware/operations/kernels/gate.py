"""The router of a MoE layer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.described.precision import dtype_of
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.kernels.work import (
    KERNELS,
    LOGIT_BYTES,
    KernelWork,
    kernel_fit_for,
    kernel_part,
)
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part, fitted_source, where
from moesim.hardware.prices.provenance import Source
from moesim.model.spec import LayerSpec, MoeSpec

STARTS = 2
"""The product; softmax and top-k in one kernel."""


class Gate(Operation):
    """The roofline of the router's weights, the hidden state, and fp32 logits.

    Where the profile has a fit of gates, that alone.
    """

    kind: ClassVar[str] = "gate"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.GATE,
            "gate",
            lambda layer, at: (layer, at.tokens if at.setting.uneven else at.most_tokens),
            "gate",
            lambda _, layer: layer.moe is not None,
        ),
    )

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits((kernel_fit_for(self.hardware, self.kind),))

    def parts(self, layer: LayerSpec, tokens: ArrayLike) -> list[Part]:
        """See ``CostModel.gate_ns``."""
        count, moe, gpu = np.asarray(tokens, np.int64), layer.moe, self.gpu
        if moe is None:
            return [Part(np.zeros(count.shape))]
        if fit := kernel_fit_for(self.hardware, "gate"):
            return where(count > 0, [kernel_part(fit, self._work(moe, count))])
        dtype = dtype_of(moe.router_parameters, moe.router_bytes)
        hidden = self.model.hidden_size * self.model.activation_bytes
        return [
            gpu.product(count, moe.router_parameters, moe.router_bytes, dtype),
            gpu.moves(count * (hidden + LOGIT_BYTES * moe.experts)),
            gpu.starts(gpu.kernels("gate", STARTS), count > 0),
        ]

    def sources(self, layer: LayerSpec, tokens: ArrayLike) -> Source | Ints:
        """See ``Operation``."""
        if layer.moe is None or (fit := kernel_fit_for(self.hardware, "gate")) is None:
            return Source.DATASHEET
        columns = {"hidden": self.model.hidden_size, "experts": layer.moe.experts}
        return fitted_source(fit.measured, columns | {"tokens": np.asarray(tokens)})

    def _work(self, moe: MoeSpec, count: Ints) -> KernelWork:
        values = {
            "hidden": self.model.hidden_size,
            "experts": moe.experts,
            "element_bytes": moe.router_bytes / max(moe.router_parameters, 1),
            "activation_bytes": self.model.activation_bytes,
        }
        each = {name: np.full(count.shape, float(value)) for name, value in values.items()}
        return KERNELS["gate"](each | {"tokens": count.astype(np.float64)})
