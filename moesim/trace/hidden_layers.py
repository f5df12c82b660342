"""Recordings of all hidden layers, in which the dense ones are zeros, as vLLM and SGLang return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.trace.assemble import expert_ids, wrong
from moesim.trace.recording import Recording

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def needed_model(recording: Recording, engine: str) -> ModelSpec:
    """The model of ``recording``; an InputError where the user did not name it."""
    if recording.model is None:
        raise InputError(
            f"{engine}'s routed_experts does not say which layers are MoE layers nor how many"
            " experts they have: name the model with --model"
        )
    return recording.model


def moe_layers(name: str, array: NDArray[Any], model: ModelSpec) -> NDArray[np.uint16]:
    """uint16[T, MoE layers, k] of ``array`` [T, hidden layers, k]; an InputError where it is not
    of ``model``.
    """
    ids = expert_ids(name, array)
    rows = [index for index, layer in enumerate(model.layers) if layer.moe]
    top_k = max((layer.moe.top_k for layer in model.moe_layers if layer.moe), default=0)
    if ids.shape[2] != top_k:
        raise wrong(
            name, f"has {counted(ids.shape[2], 'expert')} a token: {model.name} uses {top_k}"
        )
    if ids.shape[1] != len(model.layers):
        layers = len(model.layers)
        raise wrong(
            name, f"has {counted(ids.shape[1], 'layer')}: {model.name} has {layers} (with dense)"
        )
    dense = np.delete(ids, rows, axis=1)
    if dense.any():
        layer = int(np.delete(np.arange(ids.shape[1]), rows)[dense.any(axis=(0, 2))][0])
        raise wrong(name, f"has experts in layer {layer}, which is dense in {model.name}")
    return np.ascontiguousarray(ids[:, rows])
