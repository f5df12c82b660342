"""The base of everything that a user configures."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Frozen, strict parameters; a component derives from it, so its fields are its
    configuration. What checks a class is built when that is first used: few of all are in a run.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True
    )
