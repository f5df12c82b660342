"""A component by its kind alone: ``policy: lru`` for ``policy: {kind: lru}``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from moesim.config.checking.shape import Shape
from moesim.config.document import Document, Steps


def spelled_out(document: Document, model: type[BaseModel]) -> Document:
    """``document`` with ``kind`` wherever a word stands for the component of that kind."""
    for path, value in list(_values(Shape(model), document.data, ())):
        document = document.with_value(path, value, document.value_mark(path))
    return document


def component(shape: Shape | None, value: Any) -> Any:
    """``value`` with ``kind``, where it is a word and ``shape`` is one of components."""
    return {"kind": value} if isinstance(value, str) and shape and shape.kinds else value


def _values(shape: Shape, data: Any, path: Steps) -> Iterator[tuple[Steps, Any]]:
    """The places of such words, and what to write there."""
    if (value := component(shape, data)) is not data:
        yield path, value
    own = shape.child(str(data.get("kind"))) if shape.kinds and isinstance(data, Mapping) else shape
    for key, entry in _entries(data):
        if own is not None and (child := own.child(key)) is not None:
            yield from _values(child, entry, (*path, key))


def _entries(data: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(data, Mapping):
        yield from ((key, entry) for key, entry in data.items() if isinstance(key, str))
    elif isinstance(data, list):
        yield from enumerate(data)
