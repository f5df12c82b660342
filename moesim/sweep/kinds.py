"""The component that each point of a sweep has, whichever axis says so."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd

from moesim.model.chosen import split_format

NOTHING: Mapping[str, Any] = MappingProxyType({})


def kinds(
    table: pd.DataFrame, path: str, experiment: Mapping[str, Any] = NOTHING
) -> pd.Series[str]:
    """The kind of the component at ``path`` (``experts.policy``) of each point of ``table``: by an
    axis over its kind, over the component or over what holds it, else by the plain ``experiment``
    of the sweep; "" where neither says.
    """
    parts = [*path.split("."), "kind"]
    found = pd.Series(_kind(experiment, parts), index=table.index, dtype="str")
    for axis, rest in _axes(table, parts):
        said = [_kind(_plain(cell), rest) for cell in table[axis]]
        found = pd.Series(said, index=table.index, dtype="str").where(lambda s: s != "", found)
    return found


def settings(table: pd.DataFrame, path: str, experiment: Mapping[str, Any] = NOTHING) -> list[Any]:
    """What stands at ``path`` (``serving.replicas``) of each point of ``table``: by an axis over it
    or over what holds it, else by the plain ``experiment`` of the sweep; None: nothing.
    """
    parts = path.split(".")
    found = [_at(experiment, parts)] * len(table)
    for axis, rest in _axes(table, parts):
        found = [_at(_plain(cell), rest) for cell in table[axis]]
    return found


def models(table: pd.DataFrame, experiment: Mapping[str, Any] = NOTHING) -> pd.Series[str]:
    """The model of each point, whatever its format; "" where nothing says so."""
    bases, names = (settings(table, path, experiment) for path in ("model.base", "model"))
    found = [
        str(base or (split_format(name)[0] if isinstance(name, str) else ""))
        for base, name in zip(bases, names, strict=True)
    ]
    return pd.Series(found, index=table.index, dtype="str")


def _axes(table: pd.DataFrame, parts: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Axes over what stands at a path of these ``parts`` or holds it, the widest first, and the
    parts that are left.
    """
    for named in range(1, len(parts) + 1):
        if (axis := ".".join(parts[:named])) in table.columns:
            yield axis, parts[named:]


def _at(value: object, path: Sequence[str]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if isinstance(value, float) and math.isnan(value) else value


def _plain(cell: object) -> object:
    """A component is JSON in a sweep's table."""
    return json.loads(cell) if isinstance(cell, str) and cell.startswith("{") else cell


def _kind(value: object, path: Sequence[str]) -> str:
    """What stands at ``path`` below ``value``; a component may be written as its kind alone."""
    if isinstance(value, Mapping):
        return _kind(value.get(path[0]), path[1:]) if path else ""
    return value if isinstance(value, str) and list(path) in ([], ["kind"]) else ""
