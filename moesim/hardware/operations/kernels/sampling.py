"""Choosing the next tokens on the GPU."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operation import Operation
from moesim.hardware.prices.parts import Part


class Sampling(Operation):
    """What the software moves of logits once they are written; its launches are the head's.

    Each GPU of a group has all logits. Of prompts that no scheduler cuts no token is chosen.
    """

    kind: ClassVar[str] = "sampling"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(Stage.HEAD, "attention", lambda _, at: (at.read,), "head"),
    )

    def parts(self, tokens: ArrayLike) -> list[Part]:
        """Of so many ``tokens`` int[n]."""
        size = self.hardware.sampling_bytes * self.model.vocab_size
        return [self.gpu.reads(np.asarray(tokens) * size, "logits")]
