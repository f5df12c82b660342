"""Counting weights: parameters and bytes of matrices and vectors in the formats of one model."""

from __future__ import annotations

from dataclasses import dataclass

from moesim.model.formats import Plain, WeightFormat
from moesim.model.quantization import QuantizationConfig


@dataclass(frozen=True)
class Size:
    """A number of parameters and the bytes they take."""

    parameters: int = 0
    bytes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.parameters + other.parameters, self.bytes + other.bytes)


NOTHING = Size()


@dataclass(frozen=True)
class Weights:
    """The formats of a model: ``plain`` for what is not quantised, and its quantisation, if any."""

    plain: Plain
    quantization: QuantizationConfig | None = None

    def format_of(self, module: str) -> WeightFormat:
        """The format of the matrix of ``module``, its full dotted name in the checkpoint."""
        found = self.quantization.format_of(module) if self.quantization else None
        return found or self.plain

    def linear(self, module: str, outputs: int, inputs: int, *, bias: bool = False) -> Size:
        """A matrix that a quantisation may convert, and its bias, which none does."""
        matrix = Size(outputs * inputs, self.format_of(module).matrix_bytes(outputs, inputs))
        return matrix + self.table(outputs if bias else 0)

    def table(self, elements: int, number_format: Plain | None = None) -> Size:
        """Weights that are never quantised: norms, biases, routers, embeddings."""
        return Size(elements, elements * (number_format or self.plain).element_bytes)
