"""What the host hands to the GPU before a pass."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operations.copies.copy import MadeOfCopies
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.parts import Part
from moesim.hardware.prices.provenance import Source

VECTOR_BYTES = 4
"""Of an element of a token's vector (fp32), which the host looks up."""


class StepInputs(MadeOfCopies):
    """Copies from pinned memory, one after another: the tokens' vectors, and what is small beside
    them (positions, places in the cache, masks). They stand at the end of the pass before, whose
    logits the host has read by then.
    """

    kind: ClassVar[str] = "step_inputs"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.HEAD,
            "waiting_for_inputs",
            lambda _, at: (at.group_tokens, at.setting.input_copies),
            "copy inputs",
            when=lambda setting, _: setting.input_copies > 0,
        ),
    )

    def parts(self, tokens: ArrayLike, copies: int) -> list[Part]:
        """Of a pass of ``tokens`` int[n], in so many ``copies``."""
        return self._copy.parts(self._bytes(tokens), "h2d", True, copies)

    def sources(self, tokens: ArrayLike, copies: int) -> Source | Ints:
        """See ``Operation``."""
        return self._copy.sources(self._bytes(tokens), "h2d", True, copies)

    def _bytes(self, tokens: ArrayLike) -> Ints:
        return np.asarray(tokens, np.int64) * (self.model.hidden_size * VECTOR_BYTES)
