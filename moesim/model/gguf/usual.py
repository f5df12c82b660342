"""What most GGUF files of a model are in."""

from __future__ import annotations

from moesim.model.chosen import split_format
from moesim.model.spec import ModelSpec

NATIVE = "mxfp4_moe"
"""The mix of files of models whose experts are published in MXFP4: those as they are, Q8_0 else."""


def usual_recipe(model: ModelSpec) -> str:
    """The mix of ``llama-quantize`` that most files of ``model`` have."""
    native = any(layer.moe and layer.moe.expert.dtype == "mxfp4" for layer in model.layers)
    return NATIVE if native else "q4_k_m"


def plain_note(model: ModelSpec) -> str | None:
    """That attention of ``model`` is in 16 bits, which few GGUF files have; None where it is not,
    or where that was chosen.
    """
    name, chosen = split_format(model.name)
    if chosen or any(layer.attention.dtype for layer in model.layers):
        return None
    what = f"in the formats that '{name}' is published in, {model.bytes / 1e9:,.1f} GB; most GGUF"
    return f"{what} files have fewer bits a weight, as {name}@{usual_recipe(model)} has"
