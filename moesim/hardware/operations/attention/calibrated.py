"""A profile's fits of attention, as the formula takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moesim.hardware.described.precision import SAME_UNITS
from moesim.hardware.operations.attention.kernel import AttentionNumbers
from moesim.hardware.prices.calibrated import AttentionFit
from moesim.hardware.profile import HardwareProfile

DECODE, PREFILL = "attention_decode", "attention_prefill"
LATENT_MARK = "_mla"
"""The end of the name of a kernel of multi-head latent attention: decodes read the latent, prompts
the keys and values of all heads that were brought out of it.
"""
ONE_CALL = "flash_attn"
"""Kernels that get all tokens of a step in one call, prompts and answers, as vLLM's FlashAttention
backend does (read in vLLM 0.20.2 v1/attention/backends/flash_attn.py); FlashInfer's has a call for
each (v1/attention/backends/flashinfer.py).
"""


def attention_fit_for(
    profile: HardwareProfile, op: str, dtype: str, head_dim: float
) -> AttentionFit | None:
    """The first fit of an op and format that saw ``head_dim``, else the first of that format.

    bf16 stands for fp16 and the other way round.
    """
    all_fits = profile.calibrated.attention if profile.calibrated else ()
    names = (dtype, SAME_UNITS.get(dtype))
    fits = [fit for name in names for fit in all_fits if (fit.op, fit.dtype) == (op, name)]
    fits = [fit for fit in fits if not of_latents(fit)]
    seen = (fit for fit in fits if fit.measured["head_dim"][0] <= head_dim)
    near = (fit for fit in seen if head_dim <= fit.measured["head_dim"][1])
    return next(near, fits[0] if fits else None)


def latent_fit_for(profile: HardwareProfile, op: str, dtype: str) -> AttentionFit | None:
    """The first fit of an op over a latent: decodes, for which it stands as one head of half its
    width, or prompts, of as many keys and values as heads.
    """
    all_fits = profile.calibrated.attention if profile.calibrated else ()
    names = {dtype, SAME_UNITS.get(dtype)}
    own = (fit for fit in all_fits if fit.op == op and of_latents(fit))
    return next((fit for fit in own if fit.dtype in names), None)


def of_latents(fit: AttentionFit) -> bool:
    """Whether a fit is of multi-head latent attention."""
    return (fit.kernel or "").endswith(LATENT_MARK)


def in_one_call(prompts: AttentionFit, decodes: AttentionFit) -> bool:
    """Whether a step's prompts and answers share a call of these kernels."""
    names = [fit.kernel or "" for fit in (prompts, decodes)]
    return all(ONE_CALL in name and not name.endswith(LATENT_MARK) for name in names)


def attention_units(profile: HardwareProfile, dtype: str) -> Mapping[str, float]:
    """The datasheet's values that the formula's fractions are of, by the number's name."""
    sheet = profile.datasheet
    return {
        "bandwidth": sheet.memory_bandwidth.value,
        "l2": float(sheet.l2.value),
        "compute": profile.peak(dtype),
    }


def attention_numbers(fit: AttentionFit, profile: HardwareProfile) -> AttentionNumbers:
    """A fit's numbers: fractions of the datasheet's values; what it has not is nothing."""
    assert fit.dtype is not None, "attention has a format"
    units = attention_units(profile, fit.dtype)
    found: dict[str, Any] = {
        name: getattr(fit, name.removesuffix("_ns")) for name in AttentionNumbers.names()
    }
    known = {name: estimate.value for name, estimate in found.items() if estimate is not None}
    return AttentionNumbers(**{name: value / units.get(name, 1.0) for name, value in known.items()})
