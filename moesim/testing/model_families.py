"""What every model family keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from moesim.model.family import Family
from moesim.model.spec import ModelSpec


def describes_a_model(family: type[Family], config: Mapping[str, Any]) -> ModelSpec:
    """``config`` becomes a model with layers and bytes, the same with keys that nobody knows, and
    none without a key that the family needs. Returns the model.
    """
    model, name = family.model_validate(config).build("made"), family.__name__
    assert model.layers, f"{name}: a model without layers"
    assert model.bytes > 0, f"{name}: a model without weights"
    assert 0 < model.active_parameters <= model.parameters, f"{name}: active parameters"
    strange = family.model_validate({**config, "a_key_that_nobody_knows": 1}).build("made")
    assert strange == model, f"{name}: a key that it does not know changes the model"
    for names in family.names_of_needed_keys():
        rest = {key: value for key, value in config.items() if key not in names}
        try:
            family.model_validate(rest)
        except ValidationError:
            continue
        raise AssertionError(f"{name}: '{names[0]}' is needed and may be left out")
    return model
