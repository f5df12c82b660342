"""What Python callers give where the command line's parser would have refused it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral
from os import PathLike
from typing import Any

from moesim.config.errors import InputError, Problem, nearest

MOST = 10**9
"""The largest number of anything that is counted: numbers of tokens are int32 in traces."""


def check_whole(option: str, value: Any, least: int = 1) -> None:
    """An InputError unless ``value`` is a whole number from ``least`` to ``MOST``."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not least <= value <= MOST:
        what = f"{value!r} is no whole number from {least} to {MOST}; write one"
        raise InputError([Problem(option, "", what)])


def check_choice(option: str, value: Any, allowed: Iterable[str]) -> None:
    """An InputError unless ``value`` is one of ``allowed``."""
    if value not in (names := tuple(allowed)):
        raise InputError([Problem(option, "", f"{value!r}: {nearest(str(value), names)}")])


def check_list(option: str, values: Any) -> None:
    """An InputError where ``values`` is one text, a dictionary, or nothing to go through: each of
    its characters, or keys alone, would be taken for a value.
    """
    if isinstance(values, Mapping):
        remedy = [f"{path}={value}" for path, value in values.items()]
        raise InputError([Problem(option, "", f"{values!r} is no list; write {remedy!r}")])
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError([Problem(option, "", f"{values!r} is no list; write [{values!r}]")])


def check_type(option: str, value: Any, types: type | tuple[type, ...], rule: str) -> None:
    """An InputError unless ``value`` is of one of ``types``; ``rule``: what it is not, and the
    remedy.
    """
    if not isinstance(value, types):
        raise InputError([Problem(option, "", f"{type(value).__name__} is no {rule}")])


def check_path(value: Any) -> None:
    """An InputError unless ``value`` is the path of a folder of results."""
    rule = "path; name the folder that run(..., out=DIR) wrote"
    check_type("folder", value, (str, PathLike), rule)


def check_out(value: Any, *, optional: bool = True) -> None:
    """An InputError unless ``value`` is the path of what is to be written, or None if that is
    ``optional``.
    """
    types = (str, PathLike, type(None)) if optional else (str, PathLike)
    check_type("--out", value, types, "path; name a file or a folder")
