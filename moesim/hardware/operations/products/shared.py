"""The shared expert of a MoE layer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.products.calibrated import ffn_parts, product_fit_for
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part
from moesim.model.spec import FfnSpec, LayerSpec

STARTS = 3
"""First product, activation, second product."""


class Shared(Operation):
    """As a dense layer's network, over every token."""

    kind: ClassVar[str] = "shared"
    by_part = True
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.BESIDE,
            "experts",
            lambda layer, at: (layer, at.group_tokens),
            "shared expert",
            lambda _, layer: layer.moe is not None,
        ),
    )

    @property
    def networks(self) -> tuple[FfnSpec, ...]:
        """The model's different ones."""
        every = (one.moe.shared for one in self.model.moe_layers if one.moe)
        return tuple({shared: None for shared in every if shared})

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits(product_fit_for(self.hardware, one.dtype) for one in self.networks)

    def parts(self, layer: LayerSpec, tokens: ArrayLike) -> list[Part]:
        """See ``CostModel.shared_ns``."""
        if layer.moe is None or (network := layer.moe.shared) is None:
            return [Part(np.zeros(np.shape(tokens)))]
        return ffn_parts(
            self.gpu,
            network,
            tokens,
            self.model.activation_bytes,
            self.gpu.kernels("shared", STARTS),
        )
