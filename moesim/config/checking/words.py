"""A component by its kind alone, ``policy: lru`` for ``policy: {kind: lru}``, or by its keys alone,
where these are of the field's default kind: ``batching: {batch_size: 4}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from moesim.config.checking.shape import Shape
from moesim.config.document import DEFAULT, Document, Mark, Steps


def spelled_out(document: Document, model: type[BaseModel]) -> Document:
    """``document`` with ``kind`` wherever a word stands for the component of that kind, or keys do
    for that of the default kind.
    """
    for path, value in list(_values(Shape(model), document.data, ())):
        if isinstance(document.get(path), Mapping):
            document = with_default_kind(document, path, value["kind"])
        else:
            document = document.with_value(path, value, document.value_mark(path))
    return document


def with_default_kind(document: Document, path: Steps, kind: str) -> Document:
    """``document`` with the ``kind`` of the component at ``path`` that nobody wrote."""
    return document.with_value((*path, "kind"), kind, Mark(DEFAULT))


def component(shape: Shape | None, value: Any) -> Any:
    """``value`` with ``kind``, where ``shape`` is one of components and it is a word, or has keys
    of the default kind alone.
    """
    if shape is None or not shape.kinds:
        return value
    if isinstance(value, str):
        return {"kind": value}
    usual = shape.default_kind
    if usual is None or not isinstance(value, Mapping) or not value or "kind" in value:
        return value
    own = Shape(shape.kinds[usual]).fields
    return {"kind": usual, **value} if all(key in own for key in value) else value


def _values(shape: Shape, data: Any, path: Steps) -> Iterator[tuple[Steps, Any]]:
    """The places of such words and keys, and what to write there."""
    if (value := component(shape, data)) is not data:
        yield path, value
        data = value
    own = shape.child(str(data.get("kind"))) if shape.kinds and isinstance(data, Mapping) else shape
    for key, entry in _entries(data):
        if own is not None and (child := own.child(key)) is not None:
            yield from _values(child, entry, (*path, key))


def _entries(data: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(data, Mapping):
        yield from ((key, entry) for key, entry in data.items() if isinstance(key, str))
    elif isinstance(data, list):
        yield from enumerate(data)
