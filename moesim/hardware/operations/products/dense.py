"""The feed-forward network of a dense layer."""

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


class Dense(Operation):
    """The roofline of its weights, and activation traffic.

    Where the profile has a fit of products: two of them, and the activation between.
    """

    kind: ClassVar[str] = "dense"
    by_part = True
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.BEFORE_GATE,
            "attention",
            lambda layer, at: (layer, at.group_tokens),
            "dense FFN",
            lambda _, layer: layer.moe is None,
            reduced=True,
        ),
    )

    @property
    def networks(self) -> tuple[FfnSpec, ...]:
        """The model's different ones."""
        return tuple({one.dense: None for one in self.model.layers if one.dense})

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits(product_fit_for(self.hardware, one.dtype) for one in self.networks)

    def parts(self, layer: LayerSpec, tokens: ArrayLike) -> list[Part]:
        """See ``CostModel.dense_ns``."""
        if (network := layer.dense) is None:
            return [Part(np.zeros(np.shape(tokens)))]
        return ffn_parts(
            self.gpu,
            network,
            tokens,
            self.model.activation_bytes,
            self.gpu.kernels("dense", STARTS),
        )
