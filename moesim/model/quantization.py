"""``quantization_config`` of a config.json: the number format, and the modules that keep theirs."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from moesim.model.formats import (
    BlockFp8,
    GroupedInteger,
    Mxfp4,
    Nvfp4,
    TensorFp8,
    WeightFormat,
)

_BLOCK_DIMENSIONS = 2


class QuantizationConfig(BaseModel):
    """The keys that decide bytes; all others are ignored.

    ``modules_to_not_convert`` (``ignore``, ``exclude_modules``) holds module names, or parts of
    them, with ``*`` as a wildcard.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    quant_method: Literal["mxfp4", "fp8", "awq", "gptq", "modelopt"]
    quant_algo: Literal["NVFP4", "FP8"] | None = None
    bits: Literal[2, 3, 4, 8] = Field(4, validation_alias=AliasChoices("bits", "w_bit"))
    group_size: Annotated[int, Field(ge=-1)] = Field(
        128, validation_alias=AliasChoices("group_size", "q_group_size")
    )
    weight_block_size: list[Annotated[int, Field(gt=0)]] | None = None
    activation_scheme: str = "dynamic"
    modules_to_not_convert: list[str] | None = Field(
        None,
        validation_alias=AliasChoices(
            "modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules"
        ),
    )

    @field_validator("weight_block_size")
    @classmethod
    def _two_dimensions(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and len(value) != _BLOCK_DIMENSIONS:
            raise ValueError("a block has two sizes: outputs, inputs")
        return value

    @field_validator("group_size")
    @classmethod
    def _some_inputs(cls, value: int) -> int:
        if value == 0:
            raise ValueError("a group has at least one input, or is -1 for the whole row")
        return value

    @model_validator(mode="after")
    def _algorithm(self) -> QuantizationConfig:
        if self.quant_method == "modelopt" and self.quant_algo is None:
            raise ValueError("quant_method 'modelopt' needs quant_algo: NVFP4 or FP8")
        return self

    @property
    def experts_only(self) -> bool:
        """Whether the method quantises routed experts and nothing else."""
        return self.quant_method == "mxfp4"

    def weight_format(self) -> WeightFormat:
        """The format of a quantised matrix."""
        if self.quant_method == "mxfp4":
            return Mxfp4()
        if self.quant_method in ("awq", "gptq"):
            return GroupedInteger(self.bits, self.group_size, self.quant_method == "gptq")
        if self.quant_algo == "NVFP4":
            return Nvfp4()
        if self.weight_block_size:
            return BlockFp8((self.weight_block_size[0], self.weight_block_size[1]))
        return TensorFp8(self.activation_scheme == "static" or self.quant_method == "modelopt")

    def converts(self, module: str) -> bool:
        """Whether the matrix of ``module`` (its full dotted name) is quantised."""
        return not any(_names(pattern, module) for pattern in self.modules_to_not_convert or ())


def _names(pattern: str, module: str) -> bool:
    glob = re.escape(pattern).replace(r"\*", ".*")
    return re.search(rf"(^|\.){glob}(\.|$)", module) is not None


def from_quantization_file(content: Any) -> Any:
    """ModelOpt's hf_quant_config.json, ``content``, as a ``quantization_config``."""
    inner = content.get("quantization") if isinstance(content, dict) else None
    return {**inner, "quant_method": "modelopt"} if isinstance(inner, dict) else content
