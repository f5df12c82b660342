"""Number formats of weights, and the bytes of a matrix in each, with its scales and zero points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

MXFP4_BLOCK = 32
NVFP4_BLOCK = 16
_WORD_BITS = 32


def _ceil_div(value: int, divisor: int) -> int:
    return -(-value // divisor)


class WeightFormat(ABC):
    """How a weight matrix is stored."""

    name: str
    static_input: bool = False
    """Whether the input of a matrix has a scale that was set before."""

    @property
    def inputs_block(self) -> int:
        """Neighbouring inputs that share a scale; 1 where all of a row do."""
        return 1

    @abstractmethod
    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """Bytes of a matrix of ``outputs`` x ``inputs`` weights, scales included."""


@dataclass(frozen=True)
class Plain(WeightFormat):
    """Unquantised numbers of ``element_bytes`` bytes."""

    name: str
    element_bytes: int

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """See WeightFormat."""
        return outputs * inputs * self.element_bytes


FP32 = Plain("fp32", 4)
PLAIN = {"float32": FP32, "float16": Plain("fp16", 2), "bfloat16": Plain("bf16", 2)}


@dataclass(frozen=True)
class BlockFp8(WeightFormat):
    """One byte a weight and an fp32 scale a block of outputs x inputs (DeepSeek-V3: 128 x 128)."""

    block: tuple[int, int]
    name: str = "fp8"

    @property
    def inputs_block(self) -> int:
        """See WeightFormat."""
        return self.block[1]

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """See WeightFormat; blocks at the edges are partly filled."""
        blocks = _ceil_div(outputs, self.block[0]) * _ceil_div(inputs, self.block[1])
        return outputs * inputs + 4 * blocks


@dataclass(frozen=True)
class BlockFp8Scaled(WeightFormat):
    """One byte a weight and an 8-bit exponent a block (DeepSeek-V4's ue8m0 scales, MXFP8)."""

    block: tuple[int, int]
    name: str = "fp8"

    @property
    def inputs_block(self) -> int:
        """See WeightFormat."""
        return self.block[1]

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """See WeightFormat."""
        blocks = _ceil_div(outputs, self.block[0]) * _ceil_div(inputs, self.block[1])
        return outputs * inputs + blocks


@dataclass(frozen=True)
class TensorFp8(WeightFormat):
    """One byte a weight, one fp32 scale a matrix, and one for its input where that is static."""

    static_input: bool
    name: str = "fp8"

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """See WeightFormat."""
        return outputs * inputs + (8 if self.static_input else 4)


@dataclass(frozen=True)
class Mxfp4(WeightFormat):
    """OCP microscaling: 4 bits a weight and an 8-bit exponent for 32 inputs, 4.25 bits together."""

    name: str = "mxfp4"

    @property
    def inputs_block(self) -> int:
        """See WeightFormat."""
        return MXFP4_BLOCK

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """See WeightFormat."""
        return outputs * _ceil_div(inputs, MXFP4_BLOCK) * (MXFP4_BLOCK // 2 + 1)


@dataclass(frozen=True)
class Nvfp4(WeightFormat):
    """4 bits a weight, an fp8 scale for 16 inputs, an fp32 scale a matrix and one for its input."""

    name: str = "nvfp4"

    @property
    def inputs_block(self) -> int:
        """See WeightFormat."""
        return NVFP4_BLOCK

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """See WeightFormat."""
        return outputs * _ceil_div(inputs, NVFP4_BLOCK) * (NVFP4_BLOCK // 2 + 1) + 8


@dataclass(frozen=True)
class GroupedInteger(WeightFormat):
    """AWQ and GPTQ: integers packed in 32-bit words, an fp16 scale and a packed zero point a group.

    Groups run along the inputs; ``group_size`` -1 is one group. AWQ packs along the outputs, GPTQ
    along the inputs with the group number of each input kept (int32).
    """

    bits: int
    group_size: int
    packs_inputs: bool

    @property
    def name(self) -> str:  # type: ignore[override]
        """int4, int8, ..."""
        return f"int{self.bits}"

    @property
    def inputs_block(self) -> int:
        """See WeightFormat."""
        return max(1, self.group_size)

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """See WeightFormat."""
        groups = 1 if self.group_size == -1 else _ceil_div(inputs, self.group_size)
        output_words = _ceil_div(outputs * self.bits, _WORD_BITS)
        zeros_and_scales = groups * (4 * output_words + 2 * outputs)
        if self.packs_inputs:
            weights = 4 * outputs * _ceil_div(inputs * self.bits, _WORD_BITS) + 4 * inputs
        else:
            weights = 4 * inputs * output_words
        return weights + zeros_and_scales


@dataclass(frozen=True)
class PackedInteger(WeightFormat):
    """compressed-tensors and bitsandbytes: integers packed in 32-bit words along the inputs, a
    16-bit scale a group and no zero points.
    """

    bits: int
    group_size: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """int4, int8, ..."""
        return f"int{self.bits}"

    @property
    def inputs_block(self) -> int:
        """See WeightFormat."""
        return max(1, self.group_size)

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """See WeightFormat."""
        groups = 1 if self.group_size == -1 else _ceil_div(inputs, self.group_size)
        return outputs * (4 * _ceil_div(inputs * self.bits, _WORD_BITS) + 2 * groups)
