"""What compiled code raises where nothing catches it, as an error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moesim.config.errors import InputError, Problem

NUMBAS = "numba"
"""Of what numba names as the origin of such an exception."""


@contextmanager
def compiled_exceptions() -> Iterator[None]:
    """Raise an InputError for the first exception inside that compiled code could not hand on: it
    leaves the rest undone, so that all numbers after it are wrong.
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
    finally:
        sys.unraisablehook = before
    if raised:
        raise ended_with(raised[0])


def ended_with(error: BaseException) -> InputError:
    """What the user reads where compiled code of a policy or of a way to handle misses raises."""
    what = f"compiled code of one of them ended with {type(error).__name__}: {error};"
    what += " mend it (a division: by zero?)"
    return InputError([Problem("", "experts.policy, experts.miss", what)])
