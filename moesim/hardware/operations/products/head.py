"""The ends of a model: embedding lookup, final norm, output product."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.described.precision import dtype_of
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.products.calibrated import FittedProducts, Weights
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Part

STARTS = 3
"""Lookup, norm, product."""
PASSES = 5
"""Reads and writes of the hidden state: lookup 2, norm 2, product 1."""


class Head(Operation):
    """The roofline of the output matrix, or the GPU's rows of it, the hidden state, and the logits.

    Where the profile has a fit of products, the product has its start, its read and its logits.
    """

    kind: ClassVar[str] = "head"
    by_part = True
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(Stage.HEAD, "attention", lambda _, at: (at.output_tokens,), "head"),
    )

    @property
    def _dtype(self) -> str:
        model = self.model
        rows = -(-model.vocab_size // model.vocab_parts)
        return dtype_of(model.hidden_size * rows, model.head_matrix_bytes())

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits((FittedProducts(self.hardware, self._dtype).fit,))

    def parts(self, tokens: ArrayLike) -> list[Part]:
        """See ``CostModel.head_ns``."""
        count, model = np.asarray(tokens, np.int64), self.model
        logits = -(-model.vocab_size // model.vocab_parts)
        elements, stored = model.hidden_size * logits, model.head_matrix_bytes()
        dtype, starts = self._dtype, self.gpu.kernels("head", STARTS)
        passes = PASSES
        if fitted := FittedProducts(self.hardware, dtype):
            width = stored / elements
            product = fitted.part(count, Weights(logits, model.hidden_size, width))
            starts, passes, logits = starts - 1, passes - 1, 0
        else:
            product = self.gpu.product(count, elements, stored, dtype)
        moved = (passes * model.hidden_size + logits) * model.activation_bytes
        return [product, self.gpu.moves(count * moved), self.gpu.starts(starts, count > 0)]
