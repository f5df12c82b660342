"""What moesim says about bad input: one line for each mistake, and never a traceback."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from moesim.config.planned import planned

LEAST_PART = 3
"""Characters that a name has in common with one that holds them, to be meant by it."""
NEARLY = 0.85
"""How alike a name is that is meant, whatever else people may ask for by that word."""


@dataclass(frozen=True)
class Problem:
    """One mistake.

    ``where`` is ``file``, ``file:line:column`` or the name of a command-line option; ``path`` is
    the dotted path inside the file ("" where there is none); ``what`` names the value, the rule
    and the remedy. ``place`` is the line and the column, for sorting: (0, 0) where there are none.
    """

    where: str
    path: str
    what: str
    place: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.what) if part)


class InputError(Exception):
    """Input that cannot be used; the command line prints ``problems`` and leaves with exit code
    2.
    """

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        self.problems = (
            (Problem("", "", problems),) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ChangedError(InputError):
    """An input is no longer what it was at the start: no result may be made of it, nor kept."""


MOST_LISTED, FEW_LISTED = 30, 8
"""Of more names than the first a message has only so many, the most alike."""


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, by line and column; those without a line (options) last."""
    return sorted(
        dict.fromkeys(problems), key=lambda problem: (not problem.place[0], problem.place)
    )


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The remedy for a wrong ``name``: what is ``allowed`` and the nearest of it, or what to use
    instead of what is not there yet.
    """
    names, word = sorted(allowed), name.lower()
    by_lower, close = {known.lower(): known for known in names}, meant(name, names)
    listed = f"allowed: {', '.join(names)}" if names else "none is allowed here"
    if len(names) > MOST_LISTED:
        alike = sorted(get_close_matches(word, by_lower, n=FEW_LISTED, cutoff=0))
        few = ", ".join(by_lower[one] for one in alike)
        listed = f"{len(names)} names are allowed, among them {few}"
    nearly = get_close_matches(word, by_lower, n=1, cutoff=NEARLY)
    if not nearly and (told := planned(name)) is not None:
        return f"{told}; {listed}"
    return f"{listed}; did you mean '{close}'?" if close else listed


def meant(name: str, allowed: Iterable[str]) -> str | None:
    """What of ``allowed`` a wrong ``name`` may stand for; None where nothing is like it."""
    word, by_lower = name.lower(), {known.lower(): known for known in sorted(allowed)}
    close = [known for known in by_lower if word and known.startswith(word)]
    within = [known for known in by_lower if len(word) >= LEAST_PART and word in known]
    close = close or sorted(within, key=len)
    close = close or get_close_matches(word, by_lower, n=1)
    return by_lower[close[0]] if close else None


@contextmanager
def located(path: Path, instead_of: str = "") -> Iterator[None]:
    """Put ``path`` in front of the problems of an InputError that name no place yet, or in the
    place ``instead_of``.
    """
    try:
        yield
    except InputError as error:
        raise type(error)(
            problem
            if problem.where not in ("", instead_of)
            else replace(problem, where=str(path), place=(0, 0))
            for problem in error.problems
        ) from None


def check_apart(out: Path, *inputs: Path) -> None:
    """An InputError where ``out`` is one of the ``inputs``: writing it would destroy what is
    read.
    """
    if any(out.exists() and path.exists() and out.samefile(path) for path in inputs):
        what = f"'{out}' is the file that is read; name another one"
        raise InputError([Problem("--out", "", what)])


@contextmanager
def writing(path: Path, option: str = "--out") -> Iterator[None]:
    """Make the folder of ``path``, which ``option`` names, and let the caller write; an InputError
    where that fails.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        raise InputError([Problem(option, "", f"'{path}' cannot be written ({why})")]) from None
