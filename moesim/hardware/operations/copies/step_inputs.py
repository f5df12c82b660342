"""What the host hands to the GPU before a pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operation import Operation
from moesim.hardware.operations.copies.copy import Copy
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part
from moesim.hardware.prices.provenance import Source

if TYPE_CHECKING:
    from moesim.hardware.profile import HardwareProfile
    from moesim.model.spec import ModelSpec

VECTOR_BYTES = 4
"""Of an element of a token's vector (fp32), which the host looks up."""


class StepInputs(Operation):
    """Copies from pinned memory, one after another: the tokens' vectors, and what is small beside
    them (positions, places in the cache, masks). They stand at the end of the pass before, whose
    logits the host has read by then.
    """

    kind: ClassVar[str] = "step_inputs"
    rounds_up: ClassVar[bool] = True
    machine_part: ClassVar[str] = "link"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.HEAD,
            "waiting_for_inputs",
            lambda _, at: (at.group_tokens, at.setting.input_copies),
            "copy inputs",
            when=lambda setting, _: setting.input_copies > 0,
        ),
    )

    def __init__(self, hardware: HardwareProfile, model: ModelSpec, **choices: Any) -> None:
        super().__init__(hardware, model, **choices)
        self._copy = Copy(hardware, model, **choices)

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return self._copy.fits

    def parts(self, tokens: ArrayLike, copies: int) -> list[Part]:
        """Of a pass of ``tokens`` int[n], in so many ``copies``."""
        return self._copy.parts(self._bytes(tokens), "h2d", True, copies)

    def sources(self, tokens: ArrayLike, copies: int) -> Source | Ints:
        """See ``Operation``."""
        return self._copy.sources(self._bytes(tokens), "h2d", True, copies)

    def _bytes(self, tokens: ArrayLike) -> Ints:
        return np.asarray(tokens, np.int64) * (self.model.hidden_size * VECTOR_BYTES)
