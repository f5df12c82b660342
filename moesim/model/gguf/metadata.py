"""Keys of a GGUF file's metadata, below the name of its architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moesim.model.described.keys import LARGEST, ConfigError


@dataclass(frozen=True)
class Metadata:
    """``values`` of a file of ``architecture``; ``notes`` grows by what is not understood."""

    architecture: str
    values: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Metadata:
        """From all metadata; ConfigError without an architecture."""
        architecture = values.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise ConfigError("general.architecture", "is missing; is it a model's file?")
        return cls(architecture, values)

    def key(self, name: str) -> str:
        """The whole key."""
        return f"{self.architecture}.{name}"

    def value(self, name: str) -> Any:
        """The value, None where there is none."""
        return self.values.get(self.key(name))

    def number(self, name: str, default: int = 0) -> int:
        """A whole number from 0 on. ConfigError for another."""
        return self._checked(name, self.value(name), default)

    def needed(self, name: str) -> int:
        """A number above 0. ConfigError without it."""
        if (found := self.number(name)) == 0:
            raise ConfigError(self.key(name), "is missing or 0")
        return found

    def of_layer(self, name: str, layer: int, default: int = 0) -> int:
        """A number that may be an array with an entry a layer."""
        value = self.value(name)
        if isinstance(value, list):
            value = value[layer] if layer < len(value) else None
        return self._checked(name, value, default)

    def _checked(self, name: str, value: Any, default: int) -> int:
        if value is None:
            return default
        if not isinstance(value, int) or not 0 <= int(value) <= LARGEST:
            raise ConfigError(self.key(name), f"{str(value)[:60]}: should be a whole number")
        return int(value)

    def note(self, text: str) -> None:
        """Say ``text`` once in the model's notes."""
        if text not in self.notes:
            self.notes.append(text)
