"""Values that say where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Self, TypeVar

from pydantic import BaseModel, Field, model_validator

from moesim.config.document import Steps
from moesim.config.params import Params

Value = TypeVar("Value")


class Sourced(Params, Generic[Value]):
    """A ``value`` and the key of its source among the file's ``sources``."""

    value: Value
    source: str = Field(description="A key of this file's 'sources'.")


class Ranged(Sourced[Value], Generic[Value]):
    """A value whose source gives a range: real ones lie between ``low`` and ``high``."""

    low: Value | None = Field(None, description="The least that the source gives.")
    high: Value | None = Field(None, description="The most that the source gives.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:  # type: ignore[operator]
            raise ValueError("'low', 'value' and 'high' do not ascend")
        return self

    @property
    def ends(self) -> tuple[Value, Value] | None:
        """Both ends; None where the source gives no range."""
        if self.low is None and self.high is None:
            return None
        return (
            self.value if self.low is None else self.low,
            self.value if self.high is None else self.high,
        )


UNVERIFIED = "unverified"
"""What the text of a source begins with that was written from memory."""


def sources_used(part: object, path: Steps = ()) -> Iterator[tuple[Steps, str]]:
    """The path and the text of every ``source`` in ``part``: a model, or a tuple of models."""
    if isinstance(part, dict):
        for key, entry in part.items():
            yield from sources_used(entry, (*path, key))
    elif isinstance(part, tuple):
        if part and isinstance(part[0], int | float):
            return  # a row of numbers, of which profiles have long ones
        for index, entry in enumerate(part):
            yield from sources_used(entry, (*path, index))
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            value = getattr(part, name)
            if name == "source":
                yield (*path, name), value
            else:
                yield from sources_used(value, (*path, name))
