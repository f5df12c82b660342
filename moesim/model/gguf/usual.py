"""What most GGUF files of a model are in."""

from __future__ import annotations

import re
from collections.abc import Mapping

from moesim.model.chosen import split_cache, split_format
from moesim.model.spec import ModelSpec

NATIVE = "mxfp4_moe"
"""The mix of files of models whose experts are published in MXFP4: those as they are, Q8_0 else."""


USUAL = "q4_k_m"
"""The mix of files of all others."""
_OF_CHECKPOINTS = re.compile(r"(?:^|=)(fp8|int[2348])\w*")
"""Formats of checkpoints that GGUF has no type for."""
_NEAREST: Mapping[str, str] = {
    "fp8": "q8_0", "int8": "q8_0", "int4": "q4_k_m", "int3": "q3_k_m", "int2": "q2_k",
}  # fmt: skip
"""The mix of ``llama-quantize`` with as many bits a weight, and a little more."""


def nearest_mix(chosen: str | None) -> str | None:
    """The mix of GGUF files that comes nearest to the formats ``chosen`` for a model; None where
    such files can have these.
    """
    found = _OF_CHECKPOINTS.search(_of_weights(chosen))
    return _NEAREST[found[1]] if found else None


def _of_weights(chosen: str | None) -> str:
    return ((split_cache(chosen)[0] if chosen else None) or "").lower()


def usual_recipe(model: ModelSpec) -> str:
    """The mix of ``llama-quantize`` that most files of ``model`` have."""
    native = any(layer.moe and layer.moe.expert.dtype == "mxfp4" for layer in model.layers)
    return NATIVE if native else USUAL


def plain_note(model: ModelSpec) -> str | None:
    """That ``model`` is in formats which no GGUF file has, or few: attention in 16 bits; None where
    it is not, or where that was chosen.
    """
    name, chosen = split_format(model.name)
    if (mix := nearest_mix(chosen)) is not None:
        return f"in {_of_weights(chosen)}, which no GGUF file has; {name}@{mix} comes nearest"
    if chosen or any(layer.attention.dtype for layer in model.layers):
        return None
    what = f"in the formats that '{name}' is published in, {model.bytes / 1e9:,.1f} GB; most GGUF"
    return f"{what} files have fewer bits a weight, as {name}@{usual_recipe(model)} has"
