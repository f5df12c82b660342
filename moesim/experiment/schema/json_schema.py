"""The JSON Schema of experiments, for editors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from moesim.experiment.schema.experiment import Experiment

DRAFT = "https://json-schema.org/draft/2020-12/schema"


class _WithTextDefaults(GenerateJsonSchema):
    """Defaults as they are written in a file: ``25 %``, not 0.25."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """The schema of a field with a default, encoded by the field's own serializer."""
        mode: JsonSchemaMode = self.mode
        self._mode = "serialization"
        try:
            default = super().default_schema(schema).get("default")
        finally:
            self._mode = mode
        described = super().default_schema(schema)
        return {**described, "default": default} if "default" in described else described


def json_schema() -> dict[str, Any]:
    """The schema of draft 2020-12: every key with its description, every registered component."""
    schema = Experiment.model_json_schema(schema_generator=_WithTextDefaults)
    for component in schema["$defs"].values():
        _describe_kind(component)
    for part in _choices(schema):
        part["oneOf"].append(_words_of(part, schema["$defs"]))
    return {"$schema": DRAFT, "title": "moesim experiment", **without_titles(schema)}


def _choices(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of ``schema`` that is one of several components."""
    if isinstance(schema, dict) and {"oneOf", "discriminator"} <= schema.keys():
        yield schema
    for entry in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(entry, dict | list):
            yield from _choices(entry)


def _words_of(choice: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The components that need no more than their kind, by that word alone."""
    references: dict[str, str] = choice["discriminator"]["mapping"]
    names = {kind: reference.rpartition("/")[2] for kind, reference in references.items()}
    words = (kind for kind, name in names.items() if definitions[name]["required"] == ["kind"])
    return {"enum": sorted(words)}


def _describe_kind(component: dict[str, Any]) -> None:
    """``kind`` must be written, and is described by what the component does."""
    kind = component.get("properties", {}).get("kind")
    if kind is not None:
        kind.setdefault("description", component.get("description", "Which one."))
        component["required"] = sorted({"kind", *component.get("required", [])})


def without_titles(schema: Any) -> Any:
    """``schema`` without the titles that only repeat a key's name."""
    if isinstance(schema, list):
        return [without_titles(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
