"""A predictor of experts, at the time that the experiment says it takes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from moesim.hardware.charge import PREDICTION, Charge, Stage
from moesim.hardware.operation import Operation
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.parts import Part


class Prediction(Operation):
    """Behind the gate of a layer, for layers ahead (HOBBIT makes one product of the gates of these,
    arXiv 2411.01433). What is predicted before passes is charged there, by the clock.
    """

    kind: ClassVar[str] = "prediction"
    machine_part: ClassVar[str] = ""
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.GATE,
            PREDICTION,
            lambda _layer, at: (np.full_like(at.tokens, at.setting.prediction_ns),),
            name="predict experts",
            when=lambda setting, layer: setting.prediction_ns > 0 and layer.moe is not None,
        ),
    )

    def parts(self, stated_ns: Ints) -> list[Part]:
        """``stated_ns`` int64[n]."""
        return [Part(np.asarray(stated_ns, np.float64), name="as the experiment says")]
