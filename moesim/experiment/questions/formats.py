"""Which format of a model needs fewer bytes."""

from __future__ import annotations

from moesim.config.names import known_name
from moesim.experiment.loading.names import needed
from moesim.experiment.schema.experiment import Experiment
from moesim.model import ModelSpec, model_names
from moesim.model.chosen import split_format

SMALLER = "q4_k_m"
"""The mix of ``llama-quantize`` that most people run."""
BYTES = 0.65
"""Of a parameter: those of experts in that mix, and a little more."""


def smaller_format(experiment: Experiment) -> str:
    """The key ``model`` in a format of fewer bytes; "" where the experts have few already, or where
    a file says what they are.
    """
    model: ModelSpec = needed("model", experiment.model, experiment.folders)
    base, _ = split_format(experiment.named.model)
    experts = [layer.moe.expert for layer in model.moe_layers if layer.moe]
    if known_name(base, model_names()) is None or not experts:
        return ""
    wide = experts[0].bytes > BYTES * experts[0].parameters
    return f"{{base: {base}, format: {SMALLER}}}" if wide else ""
