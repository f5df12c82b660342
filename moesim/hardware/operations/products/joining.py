"""The product before an MTP layer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.described.precision import dtype_of
from moesim.hardware.operation import Operation
from moesim.hardware.operations.products.calibrated import FittedProducts, Weights
from moesim.hardware.prices.parts import Part
from moesim.model.drafting import Joining as Joined

STARTS = 4
"""Two norms, putting side by side, the product (vLLM's ``deepseek_mtp.py``, from memory)."""
PASSES = 9
"""Reads and writes of a hidden vector: two norms 4, putting side by side 4, the product 1, which
reads both.
"""


class Joining(Operation):
    """Of the last hidden vector and the next token's embedding: the roofline of its weights.

    Where the profile has a fit of products, that, with its start.
    """

    kind: ClassVar[str] = "joining"
    by_part = True

    def parts(self, product: Joined, tokens: ArrayLike) -> list[Part]:
        """Of a GPU's ``tokens`` int64[n]."""
        count, hidden = np.asarray(tokens, np.int64), self.model.hidden_size
        dtype, starts = dtype_of(product.elements, product.size), STARTS
        if fitted := FittedProducts(self.hardware, dtype):
            width = product.size / product.elements
            found, starts = fitted.part(count, Weights(hidden, 2 * hidden, width)), starts - 1
        else:
            found = self.gpu.product(count, product.elements, product.size, dtype)
        moved = self.gpu.moves(count * (PASSES * hidden * self.model.activation_bytes))
        return [found, moved, self.gpu.starts(starts, count > 0)]
