"""One sentence for a pydantic error: the value, the rule, the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from moesim.config.checking.shape import Shape
from moesim.config.counted import counted
from moesim.config.errors import nearest

_LONGEST = 60

_EXPECTED: Mapping[str, str] = {
    "string_type": "text is expected",
    "int_type": "a whole number is expected",
    "int_from_float": "a whole number is expected",
    "int_parsing": "a whole number is expected",
    "float_type": "a number is expected",
    "bool_type": "true or false is expected",
    "list_type": "a list is expected, as in [a, b]",
    "tuple_type": "a list is expected, as in [a, b]",
    "dict_type": "keys with values are expected, as in {a: 1}",
    "finite_number": "a finite number is expected",
}

_NEEDS_LIST = ("list_type", "tuple_type")
_NEEDS_KEYS = ("dict_type", "model_type", "model_attributes_type")

_BOUNDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda context: f"is too small; {context['ge']} or more is allowed",
    "greater_than": lambda context: f"is too small; more than {context['gt']} is allowed",
    "less_than_equal": lambda context: f"is too large; {context['le']} or less is allowed",
    "less_than": lambda context: f"is too large; less than {context['lt']} is allowed",
    "string_too_short": lambda context: (
        f"is too short; {counted(context['min_length'], 'character')} or more"
    ),
    "string_too_long": lambda context: (
        f"is too long; {counted(context['max_length'], 'character')} or fewer"
    ),
    "too_short": lambda context: f"is too short; {context['min_length']} or more values are needed",
}


def sentence(error: ErrorDetails, shape: Shape | None) -> str:
    """What is wrong with the value of ``error`` and what is allowed at its ``shape``."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind in _NEEDS_KEYS and shape and (shape.keys() or shape.kinds):
        return _not_keys(value, shape)
    if kind in _NEEDS_LIST and isinstance(value, str | int | float):
        return f"{wrong_type(value)}; a list is expected, as in [{_plain(value)}]"
    if kind in _EXPECTED:
        return f"{wrong_type(value)}; {_EXPECTED[kind]}"
    if kind in _BOUNDS:
        return f"{shown(value)} {_BOUNDS[kind](context)}"
    if kind in ("literal_error", "enum"):
        return _not_allowed(value, str(context["expected"]))
    return error["msg"].removeprefix("Value error, ")


def shown(value: Any) -> str:
    """``value`` as it would be written, cut where it is long."""
    if isinstance(value, str):
        text = f"'{value}'"
    else:
        text = json.dumps(value, default=str, ensure_ascii=False)
    text = text.replace("\n", "\\n")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def wrong_type(value: Any) -> str:
    """What ``value`` is, for a rule that it breaks."""
    if value is None:
        return "is empty"
    if isinstance(value, str):
        return f"{shown(value)} is text"
    if isinstance(value, bool):
        return f"{shown(value)} is a truth value"
    if isinstance(value, int | float):
        return f"{shown(value)} is a number"
    return f"{shown(value)} is a {'list' if isinstance(value, list) else 'mapping'}"


def _not_allowed(value: Any, expected: str) -> str:
    allowed = [word.strip("'") for part in expected.split(", ") for word in part.split(" or ")]
    if value is None:
        return f"is empty; {nearest('', allowed)}"
    return f"{shown(value)} is not known; {nearest(str(value), allowed)}"


def _not_keys(value: Any, shape: Shape) -> str:
    what = f"{wrong_type(value)}; keys with values are expected"
    if (example := _with_keys(value, shape)) is not None:
        return f"{what}, as in {example}"
    return f"{what}: {', '.join(shape.keys())}"


def _with_keys(value: Any, shape: Shape) -> str | None:
    """``value`` under the first kind that needs one key and takes it there."""
    for kind, option in shape.kinds.items():
        needed = [key for key, field in option.model_fields.items() if field.is_required()]
        if value is None or len(needed) != 1:
            continue
        with suppress(ValidationError):
            option.model_validate_json(json.dumps({"kind": kind, needed[0]: value}))
            return f"{{kind: {kind}, {needed[0]}: {_plain(value)}}}"
    return None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)
