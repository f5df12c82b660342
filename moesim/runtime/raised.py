"""What a component's compiled code raises where nothing catches it, as an error."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.config.registry import kind_of

NUMBAS = "numba"
"""Of what numba names as the origin of such an exception."""
PACKAGE = str(Path(__file__).parents[1])


@contextmanager
def compiled_exceptions(components: Mapping[str, object]) -> Iterator[None]:
    """Raise an InputError for what code of ``components``, by their keys in an experiment, raises
    inside. Where compiled code could not hand an exception on it is the first of them: it leaves
    the rest undone, so that all numbers after it are wrong.
    """
    before, raised = sys.unraisablehook, list[BaseException]()

    def note(unraisable: Any) -> None:
        if NUMBAS in str(unraisable.object) and unraisable.exc_value is not None:
            raised.append(unraisable.exc_value)
        else:
            before(unraisable)

    sys.unraisablehook = note
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        place = _place_in(error, components)
        if not place and not (isinstance(error, ArithmeticError) and _own(components)):
            raise
        raise _ended_with(error, place, components) from error
    finally:
        sys.unraisablehook = before
    if raised:
        raise _ended_with(raised[0], _place_in(raised[0], components), components)


def _ended_with(
    error: BaseException, place: tuple[str, int] | None, components: Mapping[str, object]
) -> InputError:
    """What the user reads. Without a place it is of a division in compiled code, which keeps none:
    then of all components, or those of the user's own.
    """
    said = " ".join(f"{type(error).__name__}: {error}".split())
    files = {key: _file_of(one) for key, one in components.items()}
    own = _own(components) or set(files)
    culprits = [key for key in files if (files[key] == place[0] if place else key in own)]
    names = [f"'{kind_of(type(components[key]))}'" for key in culprits]
    if place:
        what = f"{' or '.join(names)} raises {said} ({place[0]}:{place[1]})"
    else:
        of = (f"{name} ({files[key]})" for name, key in zip(names, culprits, strict=True))
        what = f"compiled code of {' or '.join(of)} ended with {said}; a run with"
        what += " NUMBA_DISABLE_JIT=1 in the environment is slow, and names the line"
    return InputError([Problem("", ", ".join(culprits), what)])


def _own(components: Mapping[str, object]) -> set[str]:
    """The keys of those that are the user's."""
    return {key for key, one in components.items() if not _file_of(one).startswith(PACKAGE)}


def _place_in(error: BaseException, components: Mapping[str, object]) -> tuple[str, int] | None:
    """The innermost file and line of ``components`` on the way of ``error``, or of what it is
    raised from.
    """
    files, one = {_file_of(component) for component in components.values()}, error
    while True:
        frames = reversed(traceback.extract_tb(one.__traceback__))
        if found := next(
            ((at.filename, at.lineno or 0) for at in frames if at.filename in files), None
        ):
            return found
        if one.__cause__ is None:
            return None
        one = one.__cause__


def _file_of(component: object) -> str:
    return str(getattr(sys.modules[type(component).__module__], "__file__", ""))
