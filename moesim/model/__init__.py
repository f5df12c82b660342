"""Models: parameters and bytes of every part, from a Hugging Face config.json or a shipped card."""

from moesim.model.loader import model_names
from moesim.model.named import load_model, named
from moesim.model.parts import by_layer, describe
from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec, MoeSpec

__all__ = [
    "AttentionSpec",
    "FfnSpec",
    "LayerSpec",
    "ModelSpec",
    "MoeSpec",
    "by_layer",
    "describe",
    "load_model",
    "model_names",
    "named",
]
