"""Components found by folder, and third parties' by entry point."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache, cached_property
from importlib.metadata import EntryPoints, entry_points
from typing import Any, Generic, TypeVar, get_args

from moesim.config.errors import InputError, nearest

Component = TypeVar("Component")


@cache
def _installed() -> Any:
    return entry_points()


def plugins(group: str) -> EntryPoints:
    """The entry points of ``group``; what is installed is looked through once a process."""
    found: EntryPoints = _installed().select(group=group)
    return found


class Registry(Generic[Component]):
    """All components of one kind: the modules of ``package`` and the entry points ``group``.

    A component is a class that derives from ``base`` and has its own ``kind``
    (a field ``kind: Literal["lru"] = "lru"``, or a plain class attribute).
    """

    def __init__(self, package: str, base: type[Component], group: str) -> None:
        self.package, self.base, self.group = package, base, group

    @cached_property
    def components(self) -> dict[str, type[Component]]:
        """The classes by kind, in alphabetical order; imported on first use."""
        found: dict[str, type[Component]] = {}
        for module_info in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
            module = importlib.import_module(f"{self.package}.{module_info.name}")
            for value in vars(module).values():
                if getattr(value, "__module__", None) == module.__name__:
                    self._add(found, value)
        for entry in plugins(self.group):
            self._add(found, entry.load())
        return dict(sorted(found.items()))

    def _add(self, found: dict[str, type[Component]], value: Any) -> None:
        if not (isinstance(value, type) and issubclass(value, self.base)):
            return
        kind = kind_of(value)
        if kind is None:
            return
        if kind in found and found[kind] is not value:
            raise InputError(f"{self.group}: '{kind}' is registered twice")
        found[kind] = value

    def get(self, kind: str) -> type[Component]:
        """The class of ``kind``; an InputError names the nearest one if there is none."""
        if kind not in self.components:
            raise InputError(
                f"'{kind}' is not one of {self.group}; {nearest(kind, self.components)}"
            )
        return self.components[kind]


def kind_of(component: type) -> str | None:
    """The name under which ``component`` is registered, or None for an abstract base."""
    fields = getattr(component, "model_fields", {})
    if "kind" in fields:
        values = get_args(fields["kind"].annotation)
        return str(values[0]) if values else None
    kind = getattr(component, "kind", None)
    return kind if isinstance(kind, str) else None
