"""The JSON Schema of experiments, for editors."""

from __future__ import annotations

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
    return {"$schema": DRAFT, "title": "moesim experiment", **without_titles(schema)}


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
