"""A configuration as plain data, and where in which file each of its values stands."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moesim.config.errors import InputError, Problem

Steps = tuple[str | int, ...]
"""The keys and indices that lead to a value."""
DEFAULT = "default"
"""Where a value is from that nobody wrote."""


@dataclass(frozen=True, order=True)
class Mark:
    """Where a value was written: ``line`` and ``column`` count from 1, 0 where there is none.

    Options have no line; their ``column`` is their number, for the order of messages.
    """

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    @property
    def origin(self) -> str:
        """The short form shown beside a value: ``file.yaml:12``, or the option's name."""
        if self.line:
            return f"{self.source.replace(chr(92), '/').rsplit('/', 1)[-1]}:{self.line}"
        return self.source.split(" ", 1)[0]

    def problem(self, path: Sequence[str | int], what: str) -> Problem:
        """A problem here, with the value at ``path``."""
        return Problem(str(self), dotted(path), what, (self.line, self.column))


@dataclass(frozen=True)
class Document:
    """Plain data (mappings, lists, scalars) with a mark for every value and every key.

    ``start`` marks the whole; a value without its own mark (the Python API has none) takes its
    parent's. ``problems`` are the mistakes found while reading that leave the rest readable.
    """

    data: Any
    start: Mark
    values: Mapping[Steps, Mark] = field(default_factory=dict)
    keys: Mapping[Steps, Mark] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def value_mark(self, path: Sequence[str | int]) -> Mark:
        """Where the value at ``path``, or its nearest written parent, stands."""
        for length in range(len(path), 0, -1):
            if (mark := self.values.get(tuple(path[:length]))) is not None:
                return mark
        return self.start

    def key_mark(self, path: Sequence[str | int]) -> Mark:
        """Where the key of ``path`` stands; for an entry of a list, the entry."""
        return self.keys.get(tuple(path)) or self.value_mark(path)

    def has(self, path: Sequence[str | int]) -> bool:
        """Whether there is a value at ``path``."""
        missing = object()
        return self.get(path, missing) is not missing

    def get(self, path: Sequence[str | int], default: Any = None) -> Any:
        """The value at ``path``, or ``default``."""
        value = self.data
        for step in path:
            if not (_is_entry(value, step) or (isinstance(value, dict) and step in value)):
                return default
            value = value[step]
        return value

    def problem(self, path: Sequence[str | int], what: str) -> Problem:
        """A problem with the value at ``path``."""
        return self.value_mark(path).problem(path, what)

    def with_value(self, path: Steps, value: Any, mark: Mark) -> Document:
        """A copy in which the value at ``path`` is ``value``; mappings on the way are made.

        Raises InputError where the way leads through something that is not a mapping.
        """
        data = copy.deepcopy(self.data)
        made = [path[:n] for n in range(1, len(path) + 1) if self.get(path[:n]) is None]
        parent = self._parent(data, path, mark)
        if isinstance(parent, list):
            parent[int(path[-1])] = value
        else:
            parent[str(path[-1])] = value
        marks = dict.fromkeys([*made, path], mark)
        values = {p: m for p, m in self.values.items() if p[: len(path)] != path} | marks
        keys = {p: m for p, m in self.keys.items() if p[: len(path)] != path} | marks
        return replace(self, data=data, values=values, keys=keys)

    def without(self, path: Steps) -> Document:
        """A copy without the key at ``path``, if it is there."""
        if not self.has(path):
            return self
        data = copy.deepcopy(self.data)
        del Document(data, self.start).get(path[:-1])[path[-1]]
        return replace(self, data=data)

    @staticmethod
    def _parent(data: Any, path: Steps, mark: Mark) -> Any:
        for length, step in enumerate(path[:-1], 1):
            if isinstance(data, dict) and data.get(step) is None:
                data[step] = {}
            _check_step(data, path, length, mark)
            data = data[step]
        _check_step(data, path, len(path), mark)
        return data


def _check_step(data: Any, path: Steps, length: int, mark: Mark) -> None:
    step = path[length - 1]
    if isinstance(data, dict) or _is_entry(data, step):
        return
    where = dotted(path[: length - 1]) or "the document"
    raise InputError([mark.problem(path, f"{where} has no keys, so no '{step}'")])


def _is_entry(data: Any, step: str | int) -> bool:
    return isinstance(data, list) and isinstance(step, int) and 0 <= step < len(data)


def dotted(path: Sequence[str | int]) -> str:
    """``path`` as it is written in messages and options."""
    return ".".join(map(str, path))
