"""JSON from outside: a value, or one line that says what is wrong and where.

Files that moesim writes are read strictly: a key that occurs twice and a number that is not finite
are mistakes. Other programs' files may have both.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.config.files.inputs import read_input
from moesim.config.text import decoded, mark_at

DEEPEST = 100
"""Lists and objects in one another; what follows a value down stays far from Python's limit."""
_TOKEN = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}:]|NaN|-?Infinity|-?[0-9][-+.0-9eE]*', re.DOTALL
)
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
Fault = tuple[int, str]
"""Where in a text, and what is wrong there."""


class _SuspectError(ValueError):
    """Something that ``_faults`` finds the place of."""


def read_json(path: Path | str, what: str = "JSON file", *, strict: bool = True) -> Any:
    """The value in the file ``path``, which is noted; errors as ``read_input``, ``parse_json``."""
    return parse_json(read_input(path, what), str(path), strict=strict)


def read_object(
    path: Path | str, what: str = "JSON file", *, strict: bool = True
) -> dict[str, Any]:
    """Like ``read_json``, of a file that holds an object."""
    return as_object(read_json(path, what, strict=strict), str(path))


def as_object(value: Any, source: str) -> dict[str, Any]:
    """``value``, an InputError unless it is an object."""
    if not isinstance(value, dict):
        what = f"holds a {type(value).__name__}, no JSON object; is it the right file?"
        raise InputError([Problem(source, "", what)])
    return value


def parse_json(
    content: str | bytes, source: str, first_line: int = 1, *, strict: bool = True
) -> Any:
    """The value in ``content``, which begins at ``first_line`` of ``source``; an InputError with
    line and column where it is no JSON, or too deep.
    """
    text = decoded(content, source, first_line) if isinstance(content, bytes) else content
    try:
        value = _strict(text) if strict else json.loads(text)
        if not _HALF_PAIR.search(text) and not is_deeper(value):
            return value
    except json.JSONDecodeError as error:
        what = f"is not valid JSON ({error.msg}); is the file complete?"
        raise InputError([mark_at(text, error.pos, source, first_line).problem((), what)]) from None
    except (ValueError, RecursionError):
        value = None
    if fault := next(_faults(text, strict=strict), None):
        place, what = fault
        raise InputError([mark_at(text, place, source, first_line).problem((), what)])
    return value


def is_deeper(value: Any, deepest: int = DEEPEST) -> bool:
    """Whether more than ``deepest`` lists and objects lie in one another in ``value``."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(deepest):
        inside = [entry.values() if isinstance(entry, dict) else entry for entry in level]
        level = [child for entry in inside for child in entry if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _strict(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _SuspectError
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _SuspectError
    return value


def _faults(text: str, *, strict: bool) -> Iterator[Fault]:
    """What is wrong in ``text`` though it is JSON."""
    keys: list[set[str]] = []
    last = 0, ""
    for token in _TOKEN.finditer(text):
        word, place = token[0], token.start()
        if word in "[{":
            keys.append(set())
            if len(keys) > DEEPEST:
                yield place, f"is nested too deeply: more than {DEEPEST} lists and objects"
                return
        elif word in "]}":
            keys.pop()
        elif word[0] == '"':
            last = place, word
            yield from _half_pair(place, word)
        elif word != ":":
            yield from _no_number(place, word, strict=strict)
        elif strict and (key := json.loads(last[1])) in keys[-1]:
            yield last[0], f"the key '{key}' occurs twice; remove one"
        else:
            keys[-1].add(json.loads(last[1]))


def _half_pair(place: int, word: str) -> Iterator[Fault]:
    try:
        json.loads(word).encode()
    except UnicodeEncodeError:
        yield place, "half of a surrogate pair is no character; write the character itself"


def _no_number(place: int, word: str, *, strict: bool) -> Iterator[Fault]:
    other_programs = not strict and word[-1] in "Ny"
    if not other_programs and not math.isfinite(float(word)):
        yield place, f"{word[:20]} is no number that a computer holds; write a finite one"
