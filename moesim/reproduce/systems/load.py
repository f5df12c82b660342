"""The records of systems: shipped ones by name, others by their file."""

from __future__ import annotations

from pathlib import Path

from moesim.config.checking.validation import validate
from moesim.config.errors import InputError, Problem, nearest
from moesim.config.files.file_kinds import SYSTEM, check_kind
from moesim.config.files.paths import shipped_folder
from moesim.config.strict_yaml.yaml import read_document
from moesim.reproduce.systems.record import System

RECORD = "system.yaml"


def systems_folder() -> Path:
    """The folder of the shipped records, a folder each."""
    return shipped_folder() / "experiments" / "systems"


STUDY, ALL = "reference-study", "systems"
"""What is reproduced beside a system: the study, and every system."""


def system_names() -> list[str]:
    """The shipped systems by name."""
    return sorted(path.parent.name for path in systems_folder().glob(f"*/{RECORD}"))


def record_of(name: str) -> Path:
    """The file of the record of ``name``: a shipped system, or the path of a record."""
    if name in system_names():
        return systems_folder() / name / RECORD
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return Path(name)
    what = f"'{name}' is neither a system nor the file of its record"
    raise InputError([Problem("", "", f"{what}; {nearest(name, [*system_names(), ALL, STUDY])}")])


def load_system(name: str) -> System:
    """The record of ``name``; an InputError for an unknown one, and for mistakes in it."""
    path = record_of(name)
    document = read_document(path)
    check_kind(document.data, SYSTEM, str(path))
    return validate(document, System)
