"""In which units a product runs: the rule for number formats that a card has no units for.

Weights are read at their own size whatever the units. A format without units is widened on the
way: fp8 and fp4 (mxfp4, nvfp4) weights are multiplied in bf16, bf16 on cards without it in fp16
(converted beforehand). Integer weights (AWQ, GPTQ, GGUF) are weight-only formats: always bf16.

Without a fit so is mxfp4: no table of aiconfigurator-core 0.12.0 has such experts with activations
of 4 bits (vLLM and SGLang run them in W4A16, Marlin's on the RTX PRO 6000; servers also in W4A8).
llama.cpp's products with integer activations, and its own in fp4 on Blackwell's desktop cards, are
priced at the same rate.
"""

from __future__ import annotations

from collections.abc import Mapping

from moesim.config.errors import InputError, nearest
from moesim.hardware.described.datasheet import Compute
from moesim.model.gguf.types import BY_NAME

_HALF = ("bf16", "fp16")
SAME_UNITS: Mapping[str, str] = {"fp16": "bf16", "bf16": "fp16"}
UNITS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((one.name for one in BY_NAME.values()), _HALF),
    "fp32": ("fp32",),
    "fp16": ("fp16",),
    "bf16": _HALF,
    "fp8": ("fp8", *_HALF),
    "fp4": ("fp4", *_HALF),
    "mxfp4": ("fp4", *_HALF),
    "nvfp4": ("fp4", *_HALF),
    **{f"int{bits}": _HALF for bits in (8, 6, 5, 4, 3, 2)},
}
"""For a format of weights, the units that multiply it, best first."""
WEIGHTS_ALONE: Mapping[str, str] = {"mxfp4": "bf16"}
"""Formats that most kernels widen, by into which."""


def peak_of(compute: Compute, dtype: str) -> float:
    """Operations a second of a product with ``dtype`` weights; InputError for another format."""
    if dtype not in UNITS:
        raise InputError(f"no price for weights in '{dtype}'; {nearest(dtype, UNITS)}")
    rates = (getattr(compute, unit) for unit in UNITS[dtype])
    return float(next(rate for rate in rates if rate is not None).value)


def rate_of(compute: Compute, dtype: str) -> float:
    """``peak_of`` the units in which kernels that were not measured multiply ``dtype`` weights."""
    return peak_of(compute, WEIGHTS_ALONE.get(dtype, dtype))


def dtype_of(parameters: int, stored_bytes: int) -> str:
    """The format of weights that are known by their size alone: fp32, bf16 or fp8."""
    width = stored_bytes / max(parameters, 1)
    return "fp32" if width > 3 else "bf16" if width > 1.5 else "fp8"  # noqa: PLR2004 - bytes


def activation_dtype(size: int) -> str:
    """The format of activations of ``size`` bytes an element: fp32 or bf16."""
    return "fp32" if size == 4 else "bf16"  # noqa: PLR2004 - bytes
