"""The files and the shipped things that an experiment names: do they exist, can they be read?"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from moesim.config.checking.validation import examine
from moesim.config.document import Document, Mark
from moesim.config.errors import ChangedError, InputError, Problem, nearest
from moesim.config.files.inputs import files_read, tell
from moesim.config.files.paths import look_up, not_found
from moesim.config.names import known_name, plain_name
from moesim.config.planned import planned
from moesim.config.registry import VARIABLE, plugins
from moesim.config.strict_yaml.overrides import parse_path
from moesim.experiment.loading.once import Read, kept
from moesim.experiment.schema.experiment import NO_TRACE
from moesim.hardware import machine_named, near_machine
from moesim.hardware.choice import is_choice
from moesim.hardware.choice import text_of as machine_text
from moesim.hardware.described.versions import near_software, software_named
from moesim.model.chosen import AS_EXPERTS, split_format, text_of
from moesim.model.named import named
from moesim.trace.cards import card_names, look_up_trace, no_card, scaled_from

Folders = tuple[Path, ...]
MAKERS = ("moesim ", "python ", "$ ")
"""How a line begins that is a command."""


@dataclass(frozen=True)
class Catalogue:
    """Things that an experiment's ``key`` names, or gives the path of."""

    key: str
    module: str
    names: str
    load: str
    file: str


CATALOGUES = (
    Catalogue("model", "moesim.model", "model_names", "load_model", "a config.json or GGUF file"),
    Catalogue("hardware", "moesim.hardware", "hardware_names", "load_hardware", "a profile"),
    Catalogue("software", "moesim.hardware", "software_names", "load_software", "a profile"),
)


def name_problems(document: Document, folders: Folders) -> Iterator[Problem]:
    """A problem for everything named in ``document`` that is not there or cannot be read."""
    for catalogue in CATALOGUES:
        name = document.get((catalogue.key,))
        if catalogue.key == "model" and isinstance(name, Mapping):
            with suppress(ValueError):  # which is told as a wrong value
                name = text_of(name)
        if catalogue.key == "hardware" and isinstance(name, Mapping):
            name = machine_text(name)
        if isinstance(name, str | int) and name != "":
            found = _wrong_name(catalogue, str(name), folders)
            if isinstance(found, str):
                yield document.problem((catalogue.key,), found)
            else:
                yield from (_here(document, catalogue.key, problem) for problem in found)
    trace = document.get(("trace",))
    if (
        isinstance(trace, str)
        and trace not in {"", NO_TRACE}
        and (what := _missing_trace(trace, folders))
    ):
        yield document.problem(("trace",), f"{what}{_how_made(document, trace)}")
    yield from _unknown_figures(document)


def _here(document: Document, key: str, problem: Problem) -> Problem:
    """A problem that names no place, at its path below ``key``."""
    if problem.where:
        return problem
    path = (key, *parse_path(problem.path)) if problem.path else (key,)
    return document.problem(path, problem.what)


def loaded(key: str, name: str, folders: Folders) -> Any:
    """The model, hardware or software profile ``name``; None where it cannot be had.

    Tells what it was read from, also where that was read before.
    """
    found = _read(key, name, folders)
    return None if found.problems else _told(key, name, found)


def needed(key: str, name: str, folders: Folders) -> Any:
    """Like ``loaded``, but an InputError where it cannot be had."""
    found = _read(key, name, folders)
    if found.problems:
        raise InputError(found.problems)
    return _told(key, name, found)


def _told(key: str, name: str, found: Read) -> Any:
    """What was ``found``, having told what it was read from."""
    tell(key, name, found.files)
    return found.thing


def _read(key: str, name: str, folders: Folders) -> Read:
    known = kept.get()
    if known is None:
        return _read_anew(key, name, folders)
    if (key, name, folders) not in known:
        known[key, name, folders] = _read_anew(key, name, folders)
    return known[key, name, folders]


def _read_anew(key: str, name: str, folders: Folders) -> Read:
    catalogue = next(entry for entry in CATALOGUES if entry.key == key)
    load = getattr(importlib.import_module(catalogue.module), catalogue.load)
    try:
        with files_read() as files:
            return Read(load(name, folders), tuple(files), ())
    except ChangedError:
        raise
    except InputError as error:
        return Read(None, (), error.problems)


def _wrong_name(catalogue: Catalogue, name: str, folders: Folders) -> str | tuple[Problem, ...]:
    """What is wrong with ``name``, or with the file that it names."""
    list_names = getattr(importlib.import_module(catalogue.module), catalogue.names)
    known, whole = list_names(), name
    if catalogue.key == "hardware" and (is_choice(name) or machine_named(name)):
        return _read(catalogue.key, name, folders).problems
    if catalogue.key == "model" and look_up(name, folders) is None:
        name = split_format(named(name, folders).model)[0].removeprefix(AS_EXPERTS)
    if catalogue.key == "software" and look_up(name, folders) is None:
        name = software_named(name, known) or name
    if known_name(name, known) is None and look_up(name, folders) is None:
        if (told := planned(name)) is not None and "/" in name:
            return told
        if "/" in name or name.endswith((".json", ".yaml", ".yml")):
            return not_found(name, folders)
        what = f"'{name}' is neither a known name nor the path of {catalogue.file}"
        return f"{what}; {_near(catalogue.key, name, known)}"
    return _read(catalogue.key, whole, folders).problems


def _near(key: str, name: str, known: list[str]) -> str:
    """What to write for a ``name`` that is none of ``known``, for the end of a sentence."""
    if key == "hardware":
        return near_machine(name)
    return near_software(name, known) if key == "software" else nearest(plain_name(name), known)


def _missing_trace(trace: str, folders: Folders) -> str | None:
    if trace.startswith("RoutingTrace("):  # its text
        what = "is no file; write it with moesim.trace.write_trace(trace, 'mine.parquet')"
        return f"{trace} {what}, and name that"
    found, recorded = look_up_trace(trace, folders), scaled_from(trace)
    if found is None and recorded is not None:
        return no_card(recorded)
    if found is None:
        others = nearest(trace, {*_traces_beside(trace, folders), *card_names()})
        guess = others.rpartition("; ")[2] if "did you mean" in others else ""
        return f"{not_found(trace, folders)}{'; ' if guess else ''}{guess}"
    return f"'{trace}' is a folder; name a trace (a Parquet file)" if found.is_dir() else None


def _how_made(document: Document, trace: str) -> str:
    """The command that makes ``trace``, where a comment of the experiment's file has it."""
    with suppress(OSError, ValueError):
        text = Path(document.start.source).read_text(encoding="utf-8")
        comments = (line.lstrip("# \t") for line in text.splitlines() if line.startswith("#"))
        for comment in comments:
            if trace in comment and comment.startswith(MAKERS):
                return f"; make it: {comment.rstrip()}"
    return ""


def _traces_beside(trace: str, folders: Sequence[Path]) -> set[str]:
    parent = Path(trace).parent
    return {str(parent / path.name) for f in folders for path in (f / parent).glob("*.parquet")}


@lru_cache(maxsize=1)
def figure_names() -> list[str]:
    """The figures by name, found without importing them, but for those in a file of one's own."""
    try:
        package = importlib.import_module("moesim.report.figures")
    except ImportError:
        return []
    if os.environ.get(VARIABLE):
        return sorted(package.registry.components)
    modules = {info.name for info in pkgutil.iter_modules(package.__path__)}
    built_in = {name for name in modules if not name.startswith("_")} - {"base"}
    return sorted(built_in | {entry.name for entry in plugins("moesim.figures")})


def _unknown_figures(document: Document) -> Iterator[Problem]:
    figures, known = document.get(("figures",)), figure_names()
    if not isinstance(figures, list) or not known:
        return
    for index, entry in enumerate(figures):
        given = dict(entry) if isinstance(entry, Mapping) else {"kind": entry}
        name, place = given.pop("kind", None), ("figures", index)
        if not isinstance(name, str) or name not in known:
            what = "has no 'kind'" if name is None else f"'{name}' is not a known figure"
            yield document.problem(place, f"{what}; {nearest(str(name or ''), known)}")
        else:
            for problem in examine(Document(given, Mark("")), figure_class(name))[1]:
                inner = parse_path(problem.path) if problem.path else ()
                yield document.problem((*place, *inner), problem.what)


def figure_class(name: str) -> type[Any]:
    """The class of the figure ``name``."""
    cls: type[Any] = importlib.import_module("moesim.report.figures").registry.get(name)
    return cls
