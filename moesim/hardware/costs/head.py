"""The ends of a model: embedding lookup, final norm, output product."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.operation import Operation
from moesim.hardware.precision import dtype_of
from moesim.hardware.roofline import Floats

STARTS = 3
"""Lookup, norm, product."""
PASSES = 5
"""Reads and writes of the hidden state: lookup 2, norm 2, product 1."""


class Head(Operation):
    """The roofline of the output matrix, the hidden state, and the logits."""

    kind: ClassVar[str] = "head"

    def price(self, tokens: ArrayLike) -> Floats:
        """See ``CostModel.head_ns``."""
        count, model = np.asarray(tokens, np.int64), self.model
        elements, stored = model.hidden_size * model.vocab_size, model.head_matrix_bytes()
        time = self.gpu.product_ns(count, elements, stored, dtype_of(elements, stored))
        moved = (PASSES * model.hidden_size + model.vocab_size) * model.activation_bytes
        time = time + self.gpu.activations_ns(count * moved)
        return np.where(count > 0, time + STARTS * self.gpu.start_ns, 0.0)
