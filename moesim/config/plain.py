"""Python values as the plain data that a YAML file would hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel


def plain_data(value: Any) -> Any:
    """``value`` with dicts, lists and scalars only: models as their fields, paths as text, arrays
    as lists.

    A value of any other kind becomes its text, for the schema to judge.
    """
    if hasattr(value, "tolist"):  # numpy's scalars, too, some of which are str or float
        return plain_data(value.tolist())
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain_data(entry) for key, entry in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [plain_data(entry) for entry in value]
    return str(value)
