"""Plain YAML scalars, read as YAML 1.2's core schema reads them."""

from __future__ import annotations

import re

Scalar = str | int | float | bool | None

NULLS = ("", "~", "null", "Null", "NULL")
_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(NULLS, None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_EXPONENT = re.compile(r"([-+]?[0-9]+)[eE]\+?([0-9]{1,2})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST = 4000
_WHOLE_UP_TO = 1 << 63


def plain_scalar(text: str) -> Scalar:
    """The value of an unquoted scalar.

    ``1e9`` is the whole number 1,000,000,000; ``no``, ``on``, ``1_000`` and dates are text. Raises
    ValueError for a number that no computer number holds.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > _LONGEST and _FLOAT.fullmatch(text):
        raise ValueError(f"a number of {len(text)} digits is too long")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0)
    return _floating(text)


def _floating(text: str) -> Scalar:
    if power := _EXPONENT.fullmatch(text):
        whole: int = int(power[1]) * 10 ** int(power[2])
        if abs(whole) < _WHOLE_UP_TO:
            return whole
    if not _FLOAT.fullmatch(text):
        return text
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large for a number")
    return value
