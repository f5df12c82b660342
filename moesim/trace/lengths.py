"""Tokens of requests as a user gives them: a number for all, or one a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from moesim.config.arguments import check_whole
from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.config.files.files import read_file
from moesim.config.text import decoded

Lengths = int | Sequence[int]
"""One number of tokens for all requests, or one a request in their order."""

PROMPT, REQUEST = "--prompt-tokens", "--request-tokens"


def parse_lengths(text: str, option: str) -> Lengths:
    """``7``, ``7,12,9``, or the path of a text file with such numbers, apart by commas, blanks or
    lines. Raises an InputError that names ``option`` and the value.
    """
    if _is_number(text):
        return int(text)
    where = option
    if "," not in text or Path(text).exists():
        content = read_file(text, "file with a number for each request")
        text, where = decoded(content, f"{option}: {text}"), f"{option}: {text}"
    words = text.replace(",", " ").split()
    wrong = next((word for word in words if not _is_number(word)), None)
    if wrong is not None or not words:
        said = f"'{wrong}' is no whole number" if wrong is not None else "has no number"
        what = f"{said}; write tokens as in 7, or one number a request as in 7,12,9"
        raise InputError([Problem(where, "", what)])
    return [int(word) for word in words]


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10  # noqa: PLR2004 (int32)


def check_lengths(option: str, lengths: Lengths | None, least: int) -> None:
    """An InputError unless ``lengths`` are whole numbers from ``least``, if there are any."""
    several = isinstance(lengths, Iterable) and not isinstance(lengths, str | bytes)
    for length in cast("Iterable[int]", lengths) if several else ():
        check_whole(option, length, least)
    if not several and lengths is not None:
        check_whole(option, lengths, least)


def rows_of(lengths: Lengths | None, tokens: int) -> NDArray[np.int64]:
    """int64[requests + 1], the first rows of requests of ``lengths`` in ``tokens`` rows; of one
    where there are none. An InputError where they do not add up to ``tokens``.
    """
    if lengths is None:
        return np.array([0, tokens])
    if isinstance(lengths, int):
        lengths = [lengths] * (tokens // lengths if lengths > 0 else 0)
    total = sum(lengths)
    if total != tokens or min(lengths, default=0) < 1:
        what = f"are {total} in {counted(len(lengths), 'request')}, each at least 1"
        raise InputError(
            [Problem("", REQUEST, f"{what}: must be the {counted(tokens, 'token')} of the file")]
        )
    return np.concatenate(([0], np.cumsum(lengths)))


def prompts_of(
    lengths: Lengths | None, rows: NDArray[np.int64], first: NDArray[np.int64], name: str = PROMPT
) -> NDArray[np.int64] | None:
    """int64[tokens]: the prompt length of each token's request; None where there are none.

    ``rows`` int64[requests + 1] as in ``rows_of``, ``first`` int64[requests] their first positions.
    An InputError, about ``name``, where their number is another, or a prompt is longer than its
    request.
    """
    if lengths is None:
        return None
    sizes, requests = np.diff(rows), len(rows) - 1
    given = [lengths] * requests if isinstance(lengths, int) else list(lengths)
    if len(given) != requests:
        what = f"has {counted(len(given), 'length')} for {counted(requests, 'request')}"
        remedy = f"give one a request; where the file joins several, say how long with {REQUEST}"
        raise InputError([Problem("", name, f"{what}: {remedy}")])
    prompts = np.array(given, np.int64)
    longer = np.flatnonzero(prompts > first + sizes)
    if len(longer):
        one = int(longer[0])
        has = f"request {one} ends after {counted(int((first + sizes)[one]), 'token')}"
        raise InputError(
            [Problem("", name, f"is {prompts[one]}, but {has}: must not be longer than that")]
        )
    return np.repeat(prompts, sizes)
