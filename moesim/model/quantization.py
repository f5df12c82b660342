"""``quantization_config`` of a config.json: the number format of every module."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from moesim.model.formats import (
    BlockFp8,
    BlockFp8Scaled,
    GroupedInteger,
    Mxfp4,
    Nvfp4,
    PackedInteger,
    Plain,
    TensorFp8,
    WeightFormat,
)
from moesim.model.modules import Modules

_BLOCK_DIMENSIONS = 2
_FP8_BLOCK = (128, 128)
_BITS = (2, 3, 4, 5, 6, 8)
EXPERTS = ".experts"
"""In the name of every matrix of a routed expert."""
HEAD, EMBEDDING = "lm_head", "embed_tokens"

Bits = Annotated[int, Field(ge=2, le=8)]
GroupSize = Annotated[int, Field(ge=-1)]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Numbers(_Block):
    """``weights`` of a group of compressed-tensors: bits, integers or floats, and what a scale
    serves.
    """

    num_bits: Bits | None = None
    type: str = "int"
    group_size: GroupSize | None = None
    strategy: str | None = None
    block_structure: list[Annotated[int, Field(gt=0)]] | None = None

    def weight_format(self, name: str) -> WeightFormat | None:
        """The format; ``name`` is what the group calls it."""
        if found := named_format(name, self.group_size):
            return found
        if self.type == "float" and self.num_bits == 4:  # noqa: PLR2004 - bits
            return Mxfp4() if self.group_size == 32 else Nvfp4()  # noqa: PLR2004 - weights
        if self.type == "float":
            block = self.block_structure
            whole = block is not None and len(block) == _BLOCK_DIMENSIONS
            return BlockFp8((block[0], block[1])) if block and whole else TensorFp8(True)
        return PackedInteger(self.num_bits, self.group_size or -1) if self.num_bits else None


class Group(_Block):
    """A group of compressed-tensors: the modules that it means (``Linear``: all) and their form."""

    targets: list[str] = ["Linear"]
    weights: Numbers | None = None
    format: str | None = None

    @cached_property
    def modules(self) -> Modules:
        """The modules by name."""
        return Modules(name for name in self.targets if name not in _EVERY)


_EVERY = ("Linear", "ModuleList", "FusedMoE")
"""Targets that are classes: every matrix."""


class Layer(_Block):
    """A module of ModelOpt's ``quantized_layers``."""

    quant_algo: str | None = None
    group_size: GroupSize | None = None


class QuantizationConfig(_Block):
    """The keys that decide bytes; all others are ignored.

    ``modules_to_not_convert`` (``ignore``, ``exclude_modules``) holds module names, or parts of
    them, with ``*`` as a wildcard, or ``re:`` and an expression. A ``quant_method`` that nobody has
    described is read by what its name says, its bits, or else left out, which ``notes`` tell.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", strict=True, ignored_types=(cached_property,)
    )

    quant_method: str
    quant_algo: str | None = None
    bits: Bits | None = Field(
        None, validation_alias=AliasChoices("bits", "w_bit", "wbits", "num_bits", "nbits")
    )
    load_in_4bit: bool = Field(
        False, validation_alias=AliasChoices("load_in_4bit", "_load_in_4bit")
    )
    load_in_8bit: bool = Field(
        False, validation_alias=AliasChoices("load_in_8bit", "_load_in_8bit")
    )
    group_size: GroupSize | None = Field(
        None, validation_alias=AliasChoices("group_size", "q_group_size")
    )
    weight_block_size: list[Annotated[int, Field(gt=0)]] | None = None
    activation_scheme: str | None = "dynamic"
    expert_dtype: str | None = None
    format: str | None = None
    config_groups: dict[str, Group] | None = None
    quantized_layers: dict[str, Layer] | None = None
    global_quant_config: dict[str, Any] | None = None
    modules_to_not_convert: list[str] | None = Field(
        None,
        validation_alias=AliasChoices(
            "modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules",
            "llm_int8_skip_modules", "exclude",
        ),
    )  # fmt: skip

    @field_validator("weight_block_size")
    @classmethod
    def _two_dimensions(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and len(value) != _BLOCK_DIMENSIONS:
            raise ValueError("a block has two sizes: outputs, inputs")
        return value

    @field_validator("group_size")
    @classmethod
    def _some_inputs(cls, value: int | None) -> int | None:
        if value == 0:
            raise ValueError("a group has at least one input, or is -1 for the whole row")
        return value

    @model_validator(mode="after")
    def _lists_are_readable(self) -> QuantizationConfig:
        for group in (self.config_groups or {}).values():
            assert group.modules is not None, "wrong expressions are told at once"
        assert self._kept is not None, "wrong expressions are told at once"
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not understood, a sentence each."""
        known = self.config_groups or self.quantized_layers or self._default or self.expert_dtype
        if known:
            return ()
        told = "and its weights are counted as if there were none: the real ones are smaller"
        return (f"quantization {self.quant_method!r} is not known {told}",)

    @property
    def small(self) -> Plain | None:
        """The format of what is never quantised; None for the model's own."""
        return None

    def format_of(self, module: str, outputs: int = 0, inputs: int = 0) -> WeightFormat | None:
        """The format of the matrix of ``module`` (its full dotted name), None where it is plain."""
        del outputs, inputs
        if self._layers is not None and (entry := self._layers.entry_for(module)) is not None:
            layer = (self.quantized_layers or {})[entry]
            return named_format(layer.quant_algo or "", layer.group_size)
        if not self.converts(module):
            return None
        if EXPERTS in module and self.expert_dtype:
            return named_format(f"mx{self.expert_dtype}", None) or self._default
        if self._by_layer_only or (self._experts_only and EXPERTS not in module):
            return None
        return self._of_group(module) if self.config_groups else self._default

    def converts(self, module: str) -> bool:
        """Whether the matrix of ``module`` is quantised where its format does not depend on it;
        neither the head nor the embedding is.
        """
        return module not in (HEAD, EMBEDDING) and module not in self._kept

    @cached_property
    def _kept(self) -> Modules:
        return Modules(self.modules_to_not_convert or ())

    @cached_property
    def _layers(self) -> Modules | None:
        return Modules(self.quantized_layers) if self.quantized_layers else None

    @property
    def _by_layer_only(self) -> bool:
        return self._layers is not None and (self.quant_algo or "").upper() == "MIXED_PRECISION"

    @property
    def _experts_only(self) -> bool:
        return self.quant_method == "mxfp4"

    def _of_group(self, module: str) -> WeightFormat | None:
        for group in (self.config_groups or {}).values():
            whole = any(target in _EVERY for target in group.targets)
            if group.weights and (whole or module in group.modules):
                return group.weights.weight_format(group.format or self.format or "")
        return None

    @cached_property
    def _default(self) -> WeightFormat | None:
        if self.quant_method in ("awq", "gptq"):
            packs = self.quant_method == "gptq"
            return GroupedInteger(self.bits or 4, self._group, packs)
        if self.weight_block_size:
            block = (self.weight_block_size[0], self.weight_block_size[1])
            return BlockFp8Scaled(block) if self.expert_dtype else BlockFp8(block)
        if self.quant_method == "fp8":
            return TensorFp8(self.activation_scheme == "static")
        if self.bits or self.load_in_4bit or self.load_in_8bit:
            return PackedInteger(self.bits or (4 if self.load_in_4bit else 8), self._group)
        if self.global_quant_config is not None:
            return _of_quark(self.global_quant_config)
        return named_format(self.quant_algo or self.quant_method, self.group_size)

    @property
    def _group(self) -> int:
        return self.group_size or 128


def _of_quark(block: dict[str, Any]) -> WeightFormat | None:
    """The weights of Quark's ``global_quant_config``: its fp4 has a scale for 32."""
    weight = block.get("weight")
    first = weight[0] if isinstance(weight, list) and weight else weight
    name = str(first.get("dtype") or "") if isinstance(first, dict) else ""
    return Mxfp4() if "fp4" in name else named_format(name, None)


def named_format(name: str, group_size: int | None) -> WeightFormat | None:
    """The format that ``name`` says (NVFP4, W4A16_NVFP4, FP8_PB_WO, mxfp4, int4, ...), or None."""
    word = name.lower().replace("-", "_")
    for part, found in (
        ("nvfp4", Nvfp4()), ("mxfp4", Mxfp4()), ("fp8_pb", BlockFp8(_FP8_BLOCK)),
        ("mxfp8", BlockFp8Scaled((1, 32))), ("fp8", TensorFp8(True)), ("float8", TensorFp8(True)),
        ("fp4", Nvfp4()), ("nf4", PackedInteger(4, 64)),
    ):  # fmt: skip
        if part in word:
            return found
    bits = re.search(r"(?:int|uint|w)(\d)|(\d)_?bit", word)
    number = int(bits[1] or bits[2]) if bits else 0
    return PackedInteger(number, group_size or 128) if number in _BITS else None


def from_quantization_file(content: Any) -> Any:
    """ModelOpt's hf_quant_config.json, ``content``, as a ``quantization_config``."""
    inner = content.get("quantization") if isinstance(content, dict) else None
    return {**inner, "quant_method": "modelopt"} if isinstance(inner, dict) else content
