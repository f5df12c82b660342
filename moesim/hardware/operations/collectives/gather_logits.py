"""Logits of a vocabulary that GPUs share, gathered on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operation import Operation
from moesim.hardware.operations.collectives.all_to_all import AllToAll
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part, where
from moesim.hardware.prices.provenance import Source

if TYPE_CHECKING:
    from moesim.hardware.profile import HardwareProfile
    from moesim.model.spec import ModelSpec


class GatherLogits(Operation):
    """An all-gather, priced as an all-to-all in which every GPU sends its part to all others."""

    kind: ClassVar[str] = "gather_logits"
    rounds_up: ClassVar[bool] = True
    machine_part: ClassVar[str] = "peers"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.HEAD,
            "attention",
            lambda _, at: (at.setting.group, at.output_tokens),
            "head",
            when=lambda setting, _: setting.group > 1,
        ),
    )

    def __init__(self, hardware: HardwareProfile, model: ModelSpec, **choices: Any) -> None:
        super().__init__(hardware, model, **choices)
        self._all_to_all = AllToAll(hardware, model, **choices)

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return self._all_to_all.fits

    def parts(self, gpus: int, tokens: ArrayLike) -> list[Part]:
        """The logits of ``tokens`` int[n], of which each of ``gpus`` has made as many."""
        parts, _ = self._all_to_all.even(gpus, self._bytes(tokens))
        return where(np.asarray(tokens) > 0, parts)

    def sources(self, gpus: int, tokens: ArrayLike) -> Source | Ints:
        """See ``Operation``."""
        return self._all_to_all.even(gpus, self._bytes(tokens))[1]

    def _bytes(self, tokens: ArrayLike) -> Ints:
        return np.asarray(tokens, np.int64) * self.model.vocab_size * self.model.activation_bytes
