"""What a pydantic model allows at a path: its keys, its kinds, its description."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from moesim.config.document import Steps
from moesim.config.oneof import OneOf
from moesim.config.registry import Registry

_UNIONS = (Union, types.UnionType)
_SEQUENCES = (list, tuple, set, frozenset, Sequence)


@dataclass(frozen=True)
class WrittenAs:
    """Annotates a text that may be written as the keys of ``model`` instead."""

    model: type[BaseModel]


@dataclass(frozen=True)
class Shape:
    """The type of one value, with the metadata and the field that it was declared with."""

    type: Any
    metadata: tuple[Any, ...] = ()
    field: FieldInfo | None = None

    @property
    def fields(self) -> Mapping[str, FieldInfo]:
        """The keys of a model, none for anything else."""
        for entry in self.metadata:
            if isinstance(entry, WrittenAs):
                return Shape(entry.model).fields
        if isinstance(self.type, type) and issubclass(self.type, BaseModel):
            return {info.alias or name: info for name, info in self.type.model_fields.items()}
        return {}

    @property
    def registry(self) -> Registry[Any] | None:
        """Where the classes of a tagged union are from, if it is one of components."""
        found = (entry.registry for entry in self.metadata if isinstance(entry, OneOf))
        return next(found, None)

    @property
    def kinds(self) -> Mapping[str, type[Any]]:
        """The classes of a tagged union by their tags, none for anything else."""
        if self.registry is not None:
            return self.registry.components
        fields = (self.field, *self.metadata)
        named = (field.discriminator for field in fields if isinstance(field, FieldInfo))
        discriminator = next((name for name in named if isinstance(name, str)), None)
        if discriminator is None:
            return {}
        members = get_args(self.type)
        return {
            tag: member
            for member in members
            if isinstance(member, type) and issubclass(member, BaseModel)
            for tag in get_args(member.model_fields[discriminator].annotation)
        }

    @property
    def default_kind(self) -> str | None:
        """The kind of a component that is there where none is named."""
        extra = self.field.json_schema_extra if self.field else None
        default = extra.get("default") if isinstance(extra, dict) else None
        kind = default.get("kind") if isinstance(default, dict) else None
        return kind if isinstance(kind, str) and kind in self.kinds else None

    @property
    def description(self) -> str:
        """What the field says about itself."""
        return (self.field.description or "") if self.field else ""

    def child(self, step: str | int) -> Shape | None:
        """The shape under the key, index or tag ``step``; None where there is none."""
        if step in self.kinds:
            return Shape(self.kinds[str(step)])
        if step in self.fields:
            return shape_of(self.fields[str(step)])
        arguments = get_args(self.type)
        if get_origin(self.type) in _SEQUENCES and isinstance(step, int):
            return unwrapped(arguments[0])
        if get_origin(self.type) in (dict, Mapping) and isinstance(step, str):
            return unwrapped(arguments[1])
        return None

    def children(self, key: str | int) -> Iterator[Shape]:
        """The shapes that ``key`` can have in any kind."""
        options = [Shape(cls) for cls in self.kinds.values()] if self.kinds else [self]
        if key == "kind" and self.kinds:
            yield Shape(Literal[tuple(self.kinds)])
            return
        for option in options:
            if (found := option.child(key)) is not None:
                yield found

    def keys(self) -> list[str]:
        """All keys in any kind."""
        options = [Shape(cls) for cls in self.kinds.values()] if self.kinds else [self]
        return sorted({key for option in options for key in option.fields})


def shape_of(field: FieldInfo) -> Shape:
    """The shape of a model's field."""
    inner = unwrapped(field.annotation)
    return Shape(inner.type, (*field.metadata, *inner.metadata), field)


def unwrapped(annotation: Any) -> Shape:
    """The shape of an annotation without ``Annotated`` and ``| None``."""
    if get_origin(annotation) is Annotated:
        first, *metadata = get_args(annotation)
        inner = unwrapped(first)
        return Shape(inner.type, (*metadata, *inner.metadata))
    if get_origin(annotation) in _UNIONS:
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1:
            return unwrapped(members[0])
    return Shape(annotation)


def locate(model: type[BaseModel], location: Sequence[str | int]) -> tuple[Steps, Shape | None]:
    """The path in the data of a pydantic error's ``location`` (tags left out), and its parent's
    shape.
    """
    path: list[str | int] = []
    parent: Shape | None = None
    shape: Shape | None = Shape(model)
    for step in location:
        if shape is not None and step in shape.kinds:
            shape = shape.child(step)
            continue
        path.append(step)
        parent, shape = shape, shape.child(step) if shape is not None else None
    return tuple(path), parent


def shape_at(model: type[BaseModel], path: Sequence[str | int]) -> Shape | None:
    """The shape of the value at ``path`` of plain data (no tags), in the first kind that has it."""
    shapes = [Shape(model)]
    for key in path:
        shapes = [found for shape in shapes for found in shape.children(key)]
    return shapes[0] if shapes else None
