"""Which MoE layers keep their experts in host memory, where the host computes them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from moesim.config.errors import InputError
from moesim.config.params import Params
from moesim.model.spec import LayerSpec, ModelSpec

EXPERT_TENSORS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
"""Names of a layer's experts in a GGUF file."""
OTHER_TENSORS = (
    "attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "attn_q_a", "attn_q_b",
    "attn_kv_a_mqa", "attn_kv_b", "attn_k_b", "attn_v_b", "attn_gate", "ssm_in", "ssm_out",
    "ffn_gate_inp", "ffn_gate", "ffn_up", "ffn_down", "ffn_gate_shexp", "ffn_up_shexp",
    "ffn_down_shexp",
)  # fmt: skip
"""Names of what else a layer may have that takes time, of any family."""
AUTO: Literal["auto"] = "auto"
SHOWN = 80
"""Letters of a pattern that a message shows."""
_NESTED = re.compile(r"[*+}]\)+[*+{]")


def pattern_of(text: str) -> re.Pattern[str]:
    """``text`` as a pattern of tensors' names; ValueError where it is none, means something else in
    C++, or would take for ever.
    """
    shown = f"{text[:SHOWN]}..." if len(text) > SHOWN else text
    if _NESTED.search(text):
        raise ValueError(f"'{shown}' repeats repetitions, which takes for ever; write one of them")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # [[:digit:]] is a set of letters here
            return re.compile(text)
    except (re.error, FutureWarning, OverflowError, RecursionError) as error:
        what = f"'{shown}' is no regular expression that moesim reads ({error})"
        raise ValueError(what) from None


def _numbers(value: Any) -> Any:
    """A number of layers, a list of them, or ``auto``."""
    if value == AUTO:
        return value
    numbers = value if isinstance(value, list | tuple) and value else [value]
    if not all(type(number) is int and number >= 0 for number in numbers):
        what = "is neither a number of layers nor a list of layers, from 0 on, nor auto"
        raise ValueError(f"{value!r} {what}; write 14, [20, 21], or auto")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{value!r} names a layer twice")
    return tuple(value) if isinstance(value, list) else value


class OnCpu(Params):
    """Layers whose experts stay in host memory and are computed there, none of them on the GPU."""

    layers: Annotated[
        Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...] | Literal["auto"],
        BeforeValidator(_numbers),
    ] = Field(
        default=0,
        description="The first so many MoE layers, as llama.cpp's --n-cpu-moe has it; a list of the"
        " model's layers, from 0 on; or 'auto': the fewest with which all else fits on the GPUs.",
    )
    pattern: str | None = Field(
        default=None,
        description="A regular expression that finds the names of these layers' experts, as"
        " llama.cpp's -ot REGEX=CPU: 'blk[.](2[0-9])[.]ffn_.*_exps'.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> OnCpu:
        if self.pattern is not None:
            pattern_of(self.pattern)
            if self.layers:
                what = "'layers' and 'pattern' say which layers twice"
                raise ValueError(f"{what}; write one (also as an axis)")
        return self

    @property
    def fitted(self) -> bool:
        """Whether the GPUs' memory decides how many layers these are."""
        return self.layers == AUTO

    def of(self, model: ModelSpec) -> list[bool]:
        """By MoE layer of ``model``, whether its experts are on the CPU: also in layers that the
        host runs.

        Raises InputError where it is not a MoE layer of the model, a pattern takes less or more
        than all experts of a layer, or how many fit is not known yet.
        """
        moe = [layer.index for layer in model.moe_layers]
        whole = [layer.on_host for layer in model.moe_layers]
        return [a or b for a, b in zip(self._named(model, moe), whole, strict=True)]

    def _named(self, model: ModelSpec, moe: list[int]) -> list[bool]:
        if self.pattern is not None:
            return _found(self.pattern, model)
        if self.layers == AUTO:
            raise InputError("experts.on_cpu.layers: 'auto' is a number once a run is built")
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


def _found(text: str, model: ModelSpec) -> list[bool]:
    pattern = pattern_of(text)
    found = [_taken(pattern, layer) for layer in model.moe_layers]
    if not any(found):
        like = _names(model.moe_layers[0], EXPERT_TENSORS)[0]
        what = f"'{text}' finds no expert; their names are like {like}"
        raise InputError(f"experts.on_cpu.pattern: {what}")
    return found


def _names(layer: LayerSpec, tensors: tuple[str, ...]) -> list[str]:
    return [f"blk.{layer.index}.{tensor}.weight" for tensor in tensors]


def _taken(pattern: re.Pattern[str], layer: LayerSpec) -> bool:
    """Whether ``pattern`` finds all experts of ``layer``, and nothing else that takes time."""
    experts = _names(layer, EXPERT_TENSORS)
    found = [name for name in experts if pattern.search(name)]
    more = [name for name in _names(layer, OTHER_TENSORS) if pattern.search(name)]
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
