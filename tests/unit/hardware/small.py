"""A small model, and machines with other values, for the prices."""

from __future__ import annotations

from typing import Any

from moesim.hardware import HardwareProfile
from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec, MoeSpec


def network(dtype: str = "bf16", hidden: int = 1024, inner: int = 4096, gated: bool = True) -> Any:
    parameters = hidden * inner * (3 if gated else 2)
    width = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8": 1, "mxfp4": 0.53125}[dtype]
    return FfnSpec(hidden, inner, gated, parameters, int(parameters * width), dtype)


def layer(dtype: str = "bf16", shared: bool = True, dense: bool = False) -> LayerSpec:
    attention = AttentionSpec(16, 4, 64, 64, None, 2_621_440, 5_242_880, 1024)
    moe = MoeSpec(32, 4, network(dtype), network() if shared else None, 32_768, 131_072)
    block = {"dense": network(), "moe": None} if dense else {"dense": None, "moe": moe}
    return LayerSpec(0, "decoder", attention, None, norm_parameters=2048, norm_bytes=4096, **block)


def small_model(only: LayerSpec) -> ModelSpec:
    table = 32_000 * 1024
    sizes = (table, 2 * table, 0, 0, 1024, 2048)
    return ModelSpec("small", "test", (only,), 1024, 32_000, *sizes, activation_bytes=2)


def changed(profile: HardwareProfile, **values: Any) -> HardwareProfile:
    """``profile`` with other values of its datasheet."""
    sheet = profile.datasheet
    entries = {
        name: getattr(sheet, name).model_copy(update={"value": value})
        for name, value in values.items()
    }
    return profile.model_copy(update={"datasheet": sheet.model_copy(update=entries)})
