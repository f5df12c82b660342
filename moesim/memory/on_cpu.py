"""Which MoE layers keep their experts in host memory, where the host computes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from moesim.config.errors import InputError
from moesim.config.params import Params
from moesim.model.spec import LayerSpec, ModelSpec

Layer = Annotated[int, Field(ge=0)]
MATRICES = ("gate", "up", "down")


class OnCpu(Params):
    """Layers whose experts stay in host memory and are computed there, none of them on the GPU."""

    layers: Layer | tuple[Layer, ...] = Field(
        default=0,
        description="The first so many MoE layers, as llama.cpp's --n-cpu-moe has it; or a list of"
        " the model's layers, from 0 on.",
    )
    pattern: str | None = Field(
        default=None,
        description="A regular expression that finds the names of these layers' experts, as"
        " llama.cpp's -ot REGEX=CPU: 'blk[.](2[0-9])[.]ffn_.*_exps'.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> OnCpu:
        if self.pattern is not None:
            if self.layers:
                raise ValueError("'layers' and 'pattern' say the same thing twice; write one")
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"'{self.pattern}' is no regular expression: {error}") from None
        return self

    def of(self, model: ModelSpec) -> list[bool]:
        """By MoE layer of ``model``, whether its experts are on the CPU: also in layers that the
        host runs.

        Raises InputError where it is not a MoE layer of the model, or a pattern takes less or more
        than all experts of a layer.
        """
        moe = [layer.index for layer in model.moe_layers]
        whole = [layer.on_host for layer in model.moe_layers]
        return [a or b for a, b in zip(self._named(model, moe), whole, strict=True)]

    def _named(self, model: ModelSpec, moe: list[int]) -> list[bool]:
        if self.pattern is not None:
            return _found(self.pattern, model)
        if isinstance(self.layers, int):
            if self.layers > len(moe):
                what = f"{self.layers} are more than the model's {len(moe)} MoE layers"
                raise InputError(f"experts.on_cpu.layers: {what}")
            return [place < self.layers for place in range(len(moe))]
        for layer in self.layers:
            if layer not in moe:
                what = f"{layer} is no MoE layer of {model.name}; they are {_ranges(moe)}"
                raise InputError(f"experts.on_cpu.layers: {what}")
        return [index in self.layers for index in moe]


def tensor_names(layer: LayerSpec) -> tuple[list[str], list[str]]:
    """The names in a GGUF file of a MoE layer's experts, and of its larger other tensors."""
    block = f"blk.{layer.index}."
    experts = [f"{block}ffn_{matrix}_exps.weight" for matrix in MATRICES]
    others = [f"{block}attn_{part}.weight" for part in ("q", "k", "v", "output")]
    if layer.moe is not None and layer.moe.shared is not None:
        others += [f"{block}ffn_{matrix}_shexp.weight" for matrix in MATRICES]
    return experts, others


def _found(pattern: str, model: ModelSpec) -> list[bool]:
    found = [_taken(re.compile(pattern), layer) for layer in model.moe_layers]
    if not any(found):
        like = tensor_names(model.moe_layers[0])[0][0]
        what = f"'{pattern}' finds no expert; their names are like {like}"
        raise InputError(f"experts.on_cpu.pattern: {what}")
    return found


def _taken(pattern: re.Pattern[str], layer: LayerSpec) -> bool:
    """Whether ``pattern`` finds all experts of ``layer``, and nothing else that is large."""
    experts, others = tensor_names(layer)
    found = [name for name in experts if pattern.search(name)]
    more = [name for name in others if pattern.search(name)]
    left = [name for name in experts if name not in found]
    if found and left:
        what = f"finds {found[0]} and not {left[0]}; an expert is on one side as a whole"
        raise InputError(f"experts.on_cpu.pattern: {what}, write ffn_.*_exps")
    if more:
        what = f"finds {more[0]} too; only experts can be on the CPU, write ffn_.*_exps"
        raise InputError(f"experts.on_cpu.pattern: {what}")
    return bool(found)


def _ranges(numbers: list[int]) -> str:
    """Ascending ``numbers`` in few words: '3 to 60'."""
    return ", ".join(
        f"{first} to {last}" if last > first else str(first) for first, last in _runs(numbers)
    )


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
