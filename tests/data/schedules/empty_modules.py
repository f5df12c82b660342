"""Empty modules in place of those that an engine's scheduler imports and does not need."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class _Names(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing

    def __getitem__(cls, _: Any) -> Any:
        return cls

    def __iter__(cls) -> Any:
        return iter(())

    def __or__(cls, _: Any) -> Any:
        return cls

    def __ror__(cls, _: Any) -> Any:
        return cls


class Nothing(metaclass=_Names):
    """A class, decorator, context and value of any name."""

    def __init__(self, *_: Any, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __call__(self, *given: Any, **named: Any) -> Any:
        return given[0] if len(given) == 1 and not named and callable(given[0]) else Nothing()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Any:
        return iter(())


class Empty(types.ModuleType):
    """A module with every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Names(name, (Nothing,), {})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An empty module for each of ``package``, in ``root``, that is not of ``ours``, and for what
    is ``missing``.
    """

    def __init__(
        self, root: Path, package: str, ours: Sequence[str], missing: Sequence[str]
    ) -> None:
        self.root, self.package, self.ours, self.missing = root, package, ours, missing

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        ours = any(fullname == one or fullname.startswith(f"{one}.") for one in self.ours)
        whole = fullname.split(".", maxsplit=1)[0]
        if whole in self.missing or (whole == self.package and not ours):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        return Empty(spec.name)

    def exec_module(self, module: Any) -> None:
        module.__path__ = [str(self.root.joinpath(*module.__name__.split(".")))]


class Fields(types.SimpleNamespace):
    """Settings; those that are not named are None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
