"""The numbers of one part of a machine, in layers: priors, files, what an experiment says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from moesim.config.checking.shape import Shape
from moesim.config.checking.validation import examine
from moesim.config.document import Document, Mark, Steps
from moesim.config.errors import InputError, Problem, nearest
from moesim.config.files.file_kinds import PARTS, check_kind
from moesim.config.files.paths import look_up, shipped_folder
from moesim.config.files.shipped import stems
from moesim.config.names import known_name
from moesim.config.params import Params
from moesim.config.strict_yaml.yaml import read_marked_document
from moesim.hardware.described.host import Host
from moesim.hardware.described.names import near_gpus, near_parts
from moesim.hardware.described.near_memory import NearMemory
from moesim.hardware.described.sheets import Gpu, Link
from moesim.hardware.described.sourced import Sourced
from moesim.hardware.described.storage import Storage
from moesim.hardware.profile import HardwareProfile

FOLDER = "hardware_profiles"
GIVEN = "given in the experiment"
"""The source of a number that is written in an experiment without one."""
AnyPart = Gpu | Host | Link | NearMemory | Storage
KINDS: Mapping[str, type[AnyPart]] = {
    "gpu": Gpu,
    "host": Host,
    "link": Link,
    "near_memory": NearMemory,
    "storage": Storage,
}
NO_PLURAL = ("near_memory", "storage")
_HEAD = ("end_mark", "title", "sources", "base")
Part = TypeVar("Part", bound=Params)


@dataclass
class Layer:
    """Some numbers of a part, those of later layers count; ``place``: where an experiment has
    them, None for those of a file.
    """

    document: Document
    sources: Mapping[str, str] = field(default_factory=dict)
    place: Steps | None = None

    def problem(self, path: Steps, what: str) -> Problem:
        """A problem with the value at ``path`` of the part."""
        if self.place is None:
            return self.document.problem(path, what)
        short = path[:-1] if path[-1:] == ("value",) else path
        return Mark("").problem((*self.place, *short), what)


@dataclass
class Chosen:
    """What was chosen of one ``kind``; ``whole``: the machine that the layers begin with."""

    kind: str
    name: str
    layers: list[Layer]
    whole: HardwareProfile | None = None

    @property
    def sources(self) -> dict[str, str]:
        """Of all layers."""
        return {key: text for layer in self.layers for key, text in layer.sources.items()}

    @property
    def given(self) -> set[str]:
        """The keys of the numbers that stand in the experiment."""
        return {key for one in self.layers if one.place is not None for key in one.document.data}

    def part(self, model: type[Part]) -> Part:
        """The part; InputError with all mistakes, each at its layer."""
        data: dict[str, Any] = {}
        for layer in self.layers:
            data = merged(data, layer.document.data)
        instance, problems = examine(Document(data, Mark("")), model)
        if instance is None or problems:
            raise InputError(map(self._placed, problems))
        return instance

    def _placed(self, problem: Problem) -> Problem:
        steps = filter(None, problem.path.split("."))
        path = tuple(int(step) if step.isdecimal() else step for step in steps)
        owner = (layer for layer in reversed(self.layers) if layer.document.has(path))
        return next(owner, self.layers[-1]).problem(path, problem.what)


def part_names(kind: str) -> list[str]:
    """The shipped files' names of a kind of part, sorted."""
    return stems(_folder(kind), ".yaml")


def plural(kind: str) -> str:
    """Several of a ``kind`` of parts, as folders and lists are named."""
    return kind if kind in NO_PLURAL else f"{kind}s"


def _folder(kind: str) -> Path:
    return shipped_folder() / FOLDER / plural(kind)


def part_file(kind: str, name: str) -> Path | None:
    """The shipped file of a part; None where there is none of that name."""
    known = known_name(name, part_names(kind))
    return _folder(kind) / f"{known}.yaml" if known else None


def load_part(kind: str, name: str, folders: Sequence[Path] = ()) -> AnyPart:
    """The numbers of a part by name or path; errors as ``from_file``."""
    return from_file(kind, name, folders, (kind,), ()).part(KINDS[kind])


def of_whole(kind: str, profile: HardwareProfile) -> Chosen:
    """The ``kind`` of a whole machine: its GPU or its host."""
    part = profile.datasheet if kind == "gpu" else profile.host
    data, sources = part.model_dump(mode="json", exclude_none=True), profile.sources
    if kind != "gpu":  # whose keys the GPU's fits keep
        data, sources = _renamed(data, profile.name), _under(profile.name, sources)
    return Chosen(kind, profile.name, [Layer(Document(data, Mark("")), sources)], profile)


def from_file(
    kind: str, name: str, folders: Sequence[Path], place: Steps, names: Sequence[str]
) -> Chosen:
    """The ``kind`` in the shipped file of that name, or in the user's at that path, looked up in
    ``folders``; a name that is neither is a problem at ``place``, near it ``names`` too.
    """
    path = _path(kind, name, folders, place, names)
    layers = [priors()] if kind == "gpu" else []
    document = read_marked_document(path)
    check_kind(document.data, PARTS[kind], str(path))
    if (base := document.get(("base",))) is not None:
        if base in names:
            what = (
                f"'{base}' is a whole machine, and this the file of a {kind}; write these numbers"
            )
            what += " in a profile under 'datasheet:', which 'hardware: FILE' and '--hardware FILE'"
            raise InputError([document.problem(("base",), f"{what} take")])
        below = read_marked_document(_path(kind, str(base), (path.parent, *folders), place, ()))
        if below.has(("base",)):
            what = "has a base itself; name a file that has none"
            raise InputError([document.problem(("base",), what)])
        layers.append(_layer(below, Path(str(base)).stem))
    return Chosen(kind, path.stem, [*layers, _layer(document, path.stem)])


def _path(
    kind: str, name: str, folders: Sequence[Path], place: Steps, others: Sequence[str]
) -> Path:
    if (shipped := part_file(kind, name)) is not None:
        return shipped
    known = part_names(kind)
    found = look_up(name, folders) if name.endswith((".yaml", ".yml")) else None
    if found is not None and not found.is_dir():
        return found
    what = f"'{name}' is neither a known {kind} nor the path of its file; "
    near = near_gpus if kind == "gpu" else near_parts
    what += f"'moesim list {plural(kind)}' has all; {near(name, {*known, *others})}"
    if kind == "link" and name.lower().startswith("nvlink"):
        what = f"'{name}' joins GPUs, not a GPU and its host; write peers: nvlink"
    raise InputError([Mark("").problem(place, what)])


def priors() -> Layer:
    """What stands below every GPU."""
    path = shipped_folder() / FOLDER / "priors" / "gpu.yaml"
    return _layer(read_marked_document(path), "prior")


def _layer(document: Document, name: str) -> Layer:
    """A file's numbers; its sources' keys get its ``name``, so that no two files share one."""
    sources = document.get(("sources",), {})
    if not isinstance(sources, dict):
        raise InputError([document.problem(("sources",), "keys with texts are expected")])
    problems = [
        document.problem(path, f"'{key}' is not among 'sources'; {nearest(key, sources)}")
        for path, key in _keys_of(document.data)
        if key not in sources
    ]
    if problems:
        raise InputError(problems)
    data = {key: value for key, value in document.data.items() if key not in _HEAD}
    marked = Document(_renamed(data, name), document.start, document.values, document.keys)
    return Layer(marked, _under(name, sources))


def inline(kind: str, numbers: Mapping[str, Any], model: type[Any] | None = None) -> Layer:
    """The ``numbers`` of an experiment, each with a source; ``model``: what they are checked as."""
    data = _with_sources(numbers, Shape(model or KINDS[kind]))
    keys = dict.fromkeys(key for _, key in _keys_of(data))
    return Layer(Document(data, Mark("")), {key: key for key in keys}, (kind,))


def _with_sources(numbers: Any, shape: Shape) -> Any:
    """``numbers`` with a source for each that has none."""
    if not isinstance(numbers, Mapping):
        return numbers
    data = dict(numbers)
    for key, value in numbers.items():
        inner = shape.child(key)
        if inner is None or not isinstance(inner.type, type):
            continue
        if issubclass(inner.type, Sourced):
            pair = value if isinstance(value, Mapping) else {"value": value}
            data[key] = {"source": GIVEN, **pair}
        elif inner.fields:
            data[key] = _with_sources(value, inner)
    return data


def _keys_of(data: Any, path: Steps = ()) -> Iterator[tuple[Steps, str]]:
    """Where numbers of ``data`` name their sources, and the keys."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            if key == "source":
                yield (*path, key), str(value)
            elif path or key not in _HEAD:
                yield from _keys_of(value, (*path, key))


def _renamed(data: Any, name: str) -> Any:
    if not isinstance(data, Mapping):
        return data
    return {
        key: f"{name} {value}" if key == "source" else _renamed(value, name)
        for key, value in data.items()
    }


def _under(name: str, sources: Mapping[str, str]) -> dict[str, str]:
    return {f"{name} {key}": str(text) for key, text in sources.items()}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with what ``above`` has; a number comes with its source."""
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        deeper = isinstance(old, Mapping) and isinstance(value, Mapping) and "value" not in value
        both[key] = merged(old, value) if deeper else value  # type: ignore[arg-type]
    return both
