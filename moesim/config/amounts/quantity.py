"""Amounts with a unit as text: parsed exactly, and formatted so that parsing gives the same
back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from moesim.config.errors import nearest

_AMOUNT = re.compile(
    r"\s*([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)\s*(.*?)\s*"
)
_ENDLESS = re.compile(r"\s*[-+]?\.?inf", re.IGNORECASE)
_PER_BYTE = 8
_WRITTEN_OUT = range(-9, 21)
"""Decimal exponents of numbers that are written without one."""


class QuantityError(ValueError):
    """An amount that breaks a rule; the message names the value, the rule and the remedy."""


@dataclass(frozen=True)
class Dimension:
    """A kind of amount: its units by name with their sizes in the base unit, and an example.

    ``bits``: bit units and the byte unit that each is an eighth of, to refuse them by name;
    ``largest``: what a computer number of the base unit still holds; ``endless``: what to write
    for one without an end.
    """

    name: str
    example: str
    units: Mapping[str, Fraction]
    bits: Mapping[str, str]
    largest: int = 10**30
    endless: str = ""

    def parse(self, text: Any) -> Fraction:
        """The exact amount of ``text`` in the base unit; a QuantityError for anything else."""
        if self.endless and _ENDLESS.match(str(text)):
            raise QuantityError(f"'{text}' has no end; {self.endless}")
        amount, unit = split(text, self.name, self.example)
        if not unit:
            raise QuantityError(f"'{text}' has no unit; write it as in '{self.example}'")
        if unit in self.bits:
            raise QuantityError(self._about_bits(text, amount, unit))
        if unit not in self.units:
            raise QuantityError(
                f"'{text}' has the unknown unit '{unit}'; {nearest(unit, self.units)}"
            )
        if amount < 0:
            raise QuantityError(f"'{text}' is negative; {self.name} cannot be below zero")
        if amount * self.units[unit] > self.largest:
            raise QuantityError(
                f"'{text}' is too large; {self.name} is written as in '{self.example}'"
            )
        return amount * self.units[unit]

    def format(self, value: float) -> str:
        """Text that parses to ``value``: in the largest decimal unit of at most its size."""
        amount = Fraction(Decimal(repr(float(value))))
        sizes = [unit for unit in self._by_size() if "i" not in unit[0]]
        name, size = next((unit for unit in sizes if unit[1] <= amount), sizes[-1])
        return f"{plain(amount / size)} {name}"

    def format_whole(self, value: int) -> str:
        """Text that parses to ``value``: in the largest unit that divides it, as in ``12 GiB``."""
        sizes = self._by_size()
        name, size = next((unit for unit in sizes if value and value % unit[1] == 0), sizes[-1])
        return f"{plain(value / size)} {name}"

    def _by_size(self) -> list[tuple[str, Fraction]]:
        return sorted(self.units.items(), key=lambda unit: unit[1], reverse=True)

    def _about_bits(self, text: Any, amount: Fraction, unit: str) -> str:
        same = f"{plain(amount / _PER_BYTE)} {self.bits[unit]}"
        return (
            f"'{text}' is in bits; {self.name} is given in bytes: "
            f"write '{same}' if bits are meant, '{plain(amount)} {self.bits[unit]}' if not"
        )


def split(text: Any, name: str, example: str) -> tuple[Fraction, str]:
    """The number and the unit of ``text``."""
    if not isinstance(text, str):
        raise QuantityError(_not_text(text, name, example))
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise QuantityError(f"'{text}' is not {name}; write a number and a unit: '{example}'")
    return Fraction(match[1]), match[2]


def plain(amount: Fraction) -> str:
    """``amount`` as a number in text: ``12``, ``0.25``, ``1e+30``."""
    if amount.denominator == 1 and abs(amount) < 10**21:
        return str(amount.numerator)
    digits = _decimals(amount.denominator)
    if digits is None:
        return str(float(amount))
    number = Decimal(int(amount * 10**digits)).scaleb(-digits)
    return f"{number:f}" if number.adjusted() in _WRITTEN_OUT else str(number.normalize())


def _decimals(denominator: int) -> int | None:
    """How many decimals a fraction in lowest terms has; None if they never end."""
    counts = []
    for prime in (2, 5):
        count = 0
        while denominator % prime == 0:
            denominator, count = denominator // prime, count + 1
        counts.append(count)
    return max(counts) if denominator == 1 else None


def _not_text(value: Any, name: str, example: str) -> str:
    if isinstance(value, bool) or value is None or not isinstance(value, int | float):
        return f"{name} is expected, a number and a unit: '{example}'"
    return f"{value} has no unit; {name} is written as in '{example}'"
