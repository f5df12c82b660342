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

    def format_of(self, module: str, outputs: int = 0, inputs: int = 0) -> WeightFormat:
        """The format of the matrix of ``module``, its full dotted name in the checkpoint."""
        quantization = self.quantization
        found = quantization.format_of(module, outputs, inputs) if quantization else None
        return found or self.plain

    @property
    def small(self) -> Plain:
        """The format of norms, biases and routers."""
        return (self.quantization.small if self.quantization else None) or self.plain

    def linear(self, module: str, outputs: int, inputs: int, *, bias: bool = False) -> Size:
        """A matrix that a quantisation may convert, and its bias, which none does."""
        matrix = Size(outputs * inputs, self._bytes(module, outputs, inputs))
        return matrix + self.table(outputs if bias else 0)

    def _bytes(self, module: str, outputs: int, inputs: int) -> int:
        return self.format_of(module, outputs, inputs).matrix_bytes(outputs, inputs)

    def table(self, elements: int, number_format: Plain | None = None) -> Size:
        """Weights that are never quantised: norms, biases, routers."""
        return Size(elements, elements * (number_format or self.small).element_bytes)
