"""A number of tokens, as in ``16384`` or ``16k``."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import WithJsonSchema

from moesim.config.amounts.quantity import QuantityError
from moesim.config.errors import InputError, Problem
from moesim.config.units import reads

_SIZES = {"": 1, "k": 1024, "m": 1024**2}
_WRITTEN = re.compile(r"\s*([0-9]{1,12})\s*([kKmM]?)(?:\s*tokens?)?\s*")


def parse_tokens(value: Any) -> int:
    """``16384``, ``"16384"``, ``"16k"`` or ``"512 tokens"`` as a number, 1 or more; k is 1,024 and
    M 1,024 k, as in the names of contexts. A QuantityError for anything else.
    """
    text = str(value) if type(value) is int else value
    found = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
    tokens = int(found[1]) * _SIZES[found[2].lower()] if found else 0
    if tokens < 1:
        long = isinstance(text, str) and text.strip().isdecimal() and int(text) > 0
        told = "has more than 12 digits" if long else "is no number of tokens"
        what = f"'{value}' {told}; write 1 or more, as in 16384 or 16k"
        raise QuantityError(what)
    return tokens


def tokens_of(text: str, option: str) -> int:
    """What an ``option`` has, as ``parse_tokens`` reads it; else an InputError that names it."""
    try:
        return parse_tokens(text)
    except QuantityError as error:
        raise InputError([Problem(option, "", str(error))]) from None


def many_tokens_of(text: str, option: str) -> tuple[int, ...]:
    """Like ``tokens_of``, for several with commas between, each once."""
    return tuple(dict.fromkeys(tokens_of(part, option) for part in text.split(",")))


Tokens = Annotated[
    int,
    reads(parse_tokens),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {
                    "type": "string",
                    "pattern": r"^\s*[0-9]{1,12}\s*([kKmM]\s*|[kKmM]?\s*tokens?\s*)$",
                    "examples": ["16k", "512 tokens"],
                },
            ]
        }
    ),
]
"""Tokens as an int, from ``16384``, ``16k`` or ``512 tokens``."""
