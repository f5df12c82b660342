"""Fitted numbers as texts with units, to the digits that a fit is good for."""

from __future__ import annotations

UNITS = {
    "start": (1e3, "us"),
    "bandwidth": (1e9, "GB/s"),
    "activation_bandwidth": (1e9, "GB/s"),
    "l2_bandwidth": (1e9, "GB/s"),
    "compute": (1e12, "TFLOP/s"),
    "l2": (1e6, "MB"),
    "wide": (1e-2, "%"),
    "step": (1e3, "us"),
    "fill": (1e3, "us"),
    "half": (1e3, "kB"),
    "item": (1e3, "us"),
    "combine": (1e3, "us"),
    "merge": (1e3, "us"),
    "reorder": (1e3, "us"),
    "block": (1.0, "ns"),
}
"""The unit in which a number is written, and its size."""
DIGITS = 5


def amount(name: str, value: float) -> str:
    """``value`` with the unit of the number ``name``, as a profile has it."""
    size, unit = UNITS.get(name, (1.0, ""))
    number = plain(value / size)
    return f"{number} {unit}" if unit else number


def plain(value: float) -> str:
    """A number of five digits, never in powers of ten and always with a point."""
    number = f"{value:.{DIGITS}g}"
    if "e" in number:
        number = f"{float(number):.{DIGITS}f}".rstrip("0")
        number = f"{number}0" if number.endswith(".") else number
    return number if "." in number else f"{number}.0"


def read(name: str, value: float) -> str | float:
    """What the profile's model is given: a text with a unit, or the rounded number."""
    text = amount(name, value)
    return text if name in UNITS else float(text)
