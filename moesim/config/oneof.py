"""A field that takes any component of a registry: a tagged union on ``kind``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from moesim.config.registry import Registry


@dataclass(frozen=True)
class OneOf:
    """Annotates a component's base: ``policy: Annotated[CachePolicy, OneOf(registry)]``.

    The registry is read when pydantic builds the schema, so whatever is registered then is
    allowed, and listed in the JSON Schema.
    """

    registry: Registry[Any]

    @property
    def choices(self) -> Mapping[str, type[Any]]:
        """The classes by kind."""
        return self.registry.components

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The union of the registered components, tagged by ``kind``."""
        schemas = {kind: handler.generate_schema(cls) for kind, cls in self.choices.items()}
        return core_schema.tagged_union_schema(schemas, discriminator="kind")


def component(registry: Registry[Any], kind: str, description: str) -> Any:
    """A field whose default is the component ``kind`` of ``registry`` with its own defaults."""
    return Field(
        default_factory=lambda: registry.get(kind)(),  # noqa: PLW0108 (found when it is used)
        description=description,
        json_schema_extra={"default": {"kind": kind}},
    )
