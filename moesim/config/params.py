"""The base of everything that a user configures."""

from __future__ import annotations

from functools import cached_property
from types import FunctionType

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Frozen, strict parameters; a component derives from it, so its fields are its
    configuration. What checks a class is built when that is first used: few of all are in a run.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True
    )


def unread_fields(cls: type[BaseModel]) -> list[str]:
    """The fields but ``kind`` that ``cls`` adds to its bases, where none of its methods could read
    them: functions that are compiled have no object.
    """
    models = [base for base in cls.__bases__ if issubclass(base, BaseModel)]
    known = {"kind", *(name for base in models for name in base.model_fields)}
    readers = (FunctionType, property, cached_property)
    reads = any(isinstance(value, readers) and not name.startswith("_")
                for name, value in vars(cls).items())  # fmt: skip
    own = [name for name in cls.model_fields if name not in known]
    return [] if reads or len(models) < len(cls.__bases__) else own
