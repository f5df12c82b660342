"""Components found by folder, and third parties' by entry point."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from importlib.util import spec_from_file_location
from multiprocessing import parent_process
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from moesim.config.errors import InputError, Problem, nearest

Component = TypeVar("Component")
VARIABLE = "MOESIM_PLUGINS"
"""Files with components of one's own, as many as there are between separators of a path."""


class PluginWarning(UserWarning):
    """A plug-in is left out: it cannot be loaded, or is no component."""


@cache
def _installed() -> Any:
    return entry_points()


def plugins(group: str) -> EntryPoints:
    """The entry points of ``group``; what is installed is looked through once a process."""
    found: EntryPoints = _installed().select(group=group)
    return found


class _OwnFiles(MetaPathFinder):
    """Finds the files that ``VARIABLE`` names as modules, also in processes that are started with
    components of them.
    """

    @staticmethod
    def named() -> dict[str, Path]:
        """The files by the names of their modules, in their order."""
        texts = filter(str.strip, os.environ.get(VARIABLE, "").split(os.pathsep))
        paths = [Path(text.strip()).expanduser() for text in texts]
        return {f"moesim_plugin_{path.stem}": path for path in paths}

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """The spec of such a file; None of all else."""
        del path, target
        file = self.named().get(fullname)
        return None if file is None else spec_from_file_location(fullname, file.absolute())


sys.meta_path.append(_OwnFiles())


@cache
def _own_modules(files: str) -> tuple[list[ModuleType], list[str]]:
    """The ``files`` that ``VARIABLE`` names, loaded once a process, and of each that cannot be
    loaded what is wrong, which must not stop everything else.
    """
    del files  # _OwnFiles reads them where they stand
    found, faults = [], []
    for name, path in _OwnFiles.named().items():
        try:
            found.append(importlib.import_module(name))
        except Exception as error:  # noqa: BLE001 (whatever the file raises)
            frames = traceback.extract_tb(error.__traceback__)
            lines = [one.lineno for one in frames if one.filename == str(path.absolute())]
            place = f"{path}:{lines[-1]}" if lines else str(path)
            faults.append(f"{VARIABLE}: {place} is left out: {_reason(error)}")
            _warn(faults[-1])
    return found, faults


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _warn(what: str) -> None:
    """Once, not in each process of a sweep."""
    if parent_process() is None:
        warnings.warn(what, PluginWarning, stacklevel=3)


class Registry(Generic[Component]):
    """All components of one kind: the modules of ``package``, the entry points ``group``, and what
    stands in the files that ``MOESIM_PLUGINS`` names.

    A component is a class that derives from ``base`` and has its own ``kind``
    (a field ``kind: Literal["lru"] = "lru"``, or a plain class attribute). A file is named like its
    component; a plug-in that cannot be loaded is left out with a PluginWarning.
    ``files``: the pattern of the modules to look into, as ``NAME`` or ``FOLDER.NAME`` below
    ``package``; its group that matched is the component's name.
    """

    def __init__(
        self, package: str, base: type[Component], group: str, files: str = r"(\w+)"
    ) -> None:
        self.package, self.base, self.group = package, base, group
        self.files = re.compile(files)
        self._left_out: dict[str, str] = {}

    @cached_property
    def components(self) -> dict[str, type[Component]]:
        """The classes by kind, in alphabetical order; imported on first use."""
        found: dict[str, type[Component]] = {}
        for module, name in self._modules():
            values = [one for one in vars(module).values()
                      if getattr(one, "__module__", None) == module.__name__]  # fmt: skip
            here = {kind: one for one in values if (kind := self._kind(one)) is not None}
            _check_name(module, name, here)
            for kind, component in here.items():
                self._add(found, kind, component)
        for entry in plugins(self.group):
            self._add_plugin(found, entry)
        for kind, one in self._own():
            self._add(found, kind, one)
        return dict(sorted(found.items()))

    @staticmethod
    def _own_files() -> tuple[list[ModuleType], list[str]]:
        return _own_modules(os.environ.get(VARIABLE, ""))

    def _own(self) -> Iterator[tuple[str, type[Component]]]:
        """The components of the files that are named."""
        for module in self._own_files()[0]:
            for one in vars(module).values():
                defined = getattr(one, "__module__", None) == module.__name__
                if defined and (kind := self._kind(one)) is not None:
                    yield kind, one
                elif defined and isinstance(one, type) and issubclass(one, self.base):
                    self._tell_kind(module, one)

    def _tell_kind(self, module: ModuleType, value: type[Component]) -> None:
        """Warn of a class whose ``kind`` is none; one without any may be a base of others."""
        if what := _wrong_kind(value):
            reason = f"{VARIABLE}: {module.__file__}: {value.__name__} is left out: {what}"
            self._left_out[_written(value) or value.__name__] = reason
            _warn(reason)

    def _modules(self) -> Iterator[tuple[ModuleType, str]]:
        """The modules to look into, and what a component in each is to be called."""
        for path in _below(importlib.import_module(self.package).__path__):
            if match := self.files.fullmatch(path):
                yield importlib.import_module(f"{self.package}.{path}"), match[match.lastindex or 0]

    def _kind(self, value: Any) -> str | None:
        component = isinstance(value, type) and issubclass(value, self.base)
        return kind_of(value) if component else None

    def _add(self, found: dict[str, type[Component]], kind: str, value: type[Component]) -> None:
        if found.setdefault(kind, value) is not value:
            raise InputError(f"{self.group}: '{kind}' is registered twice")

    def _add_plugin(self, found: dict[str, type[Component]], entry: EntryPoint) -> None:
        """Add the component of ``entry``; what is wrong with it must not stop everything else."""
        try:
            value = entry.load()
            if (kind := self._kind(value)) is None:
                what = f"'{entry.value}' is no {self.base.__name__} with a kind"
                why = _wrong_kind(value) if isinstance(value, type) else ""
                raise InputError(f"{what}; {why}" if why else what)  # noqa: TRY301 (said as others)
            self._add(found, kind, value)
        except Exception as error:  # noqa: BLE001 (whatever somebody else's module raises)
            package = f" of the package '{entry.dist.name}'" if entry.dist else ""
            what = f"the plug-in '{entry.name}' ({self.group}){package} is left out"
            self._left_out[entry.name] = f"{what}: {_reason(error)}"
            _warn(self._left_out[entry.name])

    def get(self, kind: str, option: str = "") -> type[Component]:
        """The class of ``kind``; an InputError, which names ``option``, if there is none."""
        if kind not in self.components:
            what = f"'{kind}' is not known; {nearest(kind, self.components)}"
            raise InputError([Problem(option, "", what + self.why_missing(kind))])
        return self.components[kind]

    def why_missing(self, kind: str) -> str:
        """What an error about an unknown ``kind`` adds where a plug-in of that name is left out, or
        a file that may have it.
        """
        here = [self._left_out[kind]] if kind in self._left_out else self._own_files()[1]
        return "".join(f"; {what}" for what in here)


def _below(folders: Iterable[str]) -> Iterator[str]:
    """The modules in ``folders``, and those in packages there, as ``FOLDER.NAME``."""
    for found in pkgutil.iter_modules(folders):
        yield found.name
        if found.ispkg and isinstance(found.module_finder, FileFinder):
            inner = str(Path(found.module_finder.path) / found.name)
            yield from (f"{found.name}.{one.name}" for one in pkgutil.iter_modules([inner]))


def _check_name(module: ModuleType, name: str, components: dict[str, Any]) -> None:
    """An InputError where the one component of ``module`` is not called ``name``."""
    files = {kind.replace("-", "_").replace(".", "_") for kind in components}
    if len(components) == 1 and name not in files:
        (kind,) = components
        what = f"the kind is '{kind}', but the file is not; rename the file, or write '{name}'"
        raise InputError([Problem(str(module.__file__), "", what)])


def kind_of(component: type) -> str | None:
    """The name under which ``component`` is registered, or None for an abstract base."""
    fields = getattr(component, "model_fields", {})
    if "kind" in fields:
        annotation = fields["kind"].annotation
        return str(get_args(annotation)[0]) if get_origin(annotation) is Literal else None
    kind = getattr(component, "kind", None)
    return kind if isinstance(kind, str) else None


def _written(component: type) -> str:
    """What stands as the ``kind`` of a class for which that is no kind; "" where it is no text."""
    field = getattr(component, "model_fields", {}).get("kind")
    return field.default if field is not None and isinstance(field.default, str) else ""


def _wrong_kind(component: type) -> str:
    """What is wrong with the ``kind`` that ``component`` has; "" where it has none."""
    if getattr(component, "model_fields", None) is None:
        return "its kind is no text" if hasattr(component, "kind") else ""
    if "kind" not in component.model_fields:  # type: ignore[attr-defined]
        return ""
    name = _written(component) or "NAME"
    return f'its kind is no Literal; write kind: Literal["{name}"] = "{name}"'


@contextmanager
def answering(key: str, component: object) -> Iterator[None]:
    """An InputError, with the place, for what the code of ``component`` (or of its instances, if it
    is a class), an experiment's ``key``, raises inside.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise wrong_answer(key, component, _raised(component, error)) from error


def _raised(component: object, error: Exception) -> str:
    """What is wrong with ``component``, whose code raised ``error``."""
    module = getattr(sys.modules[_class_of(component).__module__], "__file__", None)
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, NotImplementedError) and not error.args:
        return f"has no '{frames[-1].name}', which its base class leaves to it"
    place = next((one for one in reversed(frames) if one.filename == module), frames[-1])
    return f"raises {_reason(error)} ({place.filename}:{place.lineno})"


def _class_of(component: object) -> type:
    return component if isinstance(component, type) else type(component)


def wrong_answer(key: str, component: object, what: str) -> InputError:
    """An InputError for a component, an experiment's ``key``, that gives what no run can be of."""
    name = kind_of(_class_of(component)) or _class_of(component).__name__
    return InputError([Problem("", key, f"'{name}' {what}")])
