"""In which mix of ``llama-quantize`` a model would fit."""

from __future__ import annotations

from moesim.config.errors import InputError
from moesim.experiment.schema.experiment import Experiment
from moesim.model import ModelSpec, load_model
from moesim.model.chosen import SEPARATOR, split_format
from moesim.model.gguf.usual import NATIVE, usual_recipe
from moesim.sweep.advise.abilities import STOCK, engine_named

MIXES = (
    "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "iq3_xxs", "q2_k", "iq2_m", "iq2_xxs",
    "iq1_s",
)  # fmt: skip
"""Those that files are offered in, the largest first."""


def smaller(experiment: Experiment, room: int) -> str:
    """`` (NAME@MIX, 61.8 GB)``: the most bits a weight in which the model takes no more than
    ``room`` bytes; nothing where none does, or the engine reads no such files.
    """
    name, _ = split_format(experiment.model)
    if engine_named(experiment.software) not in STOCK:
        return ""
    found = (_in(name, mix) for mix in MIXES)
    fits = next((one for one in found if one and one.bytes <= room), None)
    return f" ({fits.name}, {fits.bytes / 1e9:.1f} GB)" if fits else ""


def _in(name: str, mix: str) -> ModelSpec | None:
    """The model of this ``name`` in ``mix``; None where it has no such file."""
    try:
        if usual_recipe(load_model(name)) == NATIVE:
            return None
        return load_model(f"{name}{SEPARATOR}{mix}")
    except InputError:
        return None
