"""Logits that the host reads after a pass, which chooses the next tokens there."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operations.copies.copy import MadeOfCopies
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.parts import Part, where
from moesim.hardware.prices.provenance import Source

LOGIT_BYTES = 4
"""Of one of the vocabulary (fp32, whatever the activations are)."""


class ReadLogits(MadeOfCopies):
    """One copy to pinned memory, and the host's wait for it; the GPU has nothing to do meanwhile.

    What the host then does with them is not priced.
    """

    kind: ClassVar[str] = "read_logits"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.HEAD,
            "waiting_for_logits",
            lambda _, at: (at.read, at.setting.logit_wait_ns),
            "read logits",
            when=lambda setting, _: setting.logit_wait_ns is not None,
        ),
    )

    def parts(self, tokens: ArrayLike, wait_ns: int) -> list[Part]:
        """The logits of ``tokens`` int[n], and a wait of ``wait_ns``."""
        wait = Part(np.asarray(float(wait_ns)), name="wait")
        return where(np.asarray(tokens) > 0, [*self._copy.parts(self._bytes(tokens), "d2h"), wait])

    def sources(self, tokens: ArrayLike, wait_ns: int) -> Source | Ints:
        """See ``Operation``."""
        return self._copy.sources(self._bytes(tokens), "d2h")

    def _bytes(self, tokens: ArrayLike) -> Ints:
        return np.asarray(tokens, np.int64) * (self.model.vocab_size * LOGIT_BYTES)
