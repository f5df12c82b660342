"""Amounts with units as pydantic types: text such as ``12 GiB`` in files, numbers in Python.

A number without a unit is refused, and so are bits where bytes are meant. A model writes its
numbers back as text that reads as the same numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    InstanceOf,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError

from moesim.config.amounts.capacity import (
    BLOCKS,
    SLOTS,
    ExpertCapacity,
    KvCapacity,
    parse_capacity,
    parse_kv_capacity,
)
from moesim.config.amounts.dimensions import (
    CARBON,
    CLOCK,
    ENERGY_PER_BYTE,
    LIFE,
    MASS,
    POWER,
    POWER_OF_MEMORY,
    PRICE,
    RENT,
    REQUEST_RATE,
    TARIFF,
    format_bandwidth,
    format_bytes,
    format_compute_rate,
    format_duration,
    format_percent,
    format_percents,
    parse_bandwidth,
    parse_bytes,
    parse_compute_rate,
    parse_duration,
    parse_network_rate,
    parse_percent,
    parse_percents,
)
from moesim.config.amounts.quantity import Dimension, QuantityError

NUMBER = r"^\s*\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?\s*"
BYTE_UNITS = "([kMGTP]|[KMGTP]i)?B"


def reads(parse: Callable[[Any], Any]) -> BeforeValidator:
    """The validator that lets ``parse`` read a value and reports its QuantityError."""

    def read(value: Any) -> Any:
        try:
            return parse(value)
        except QuantityError as error:
            raise PydanticCustomError("unit", "{message}", {"message": str(error)}) from None

    return BeforeValidator(read)


def within(low: str, high: str, kind: Dimension) -> AfterValidator:
    """The validator that refuses an amount outside ``low`` to ``high``: most often its unit is
    wrong.
    """
    least, most = float(kind.parse(low)), float(kind.parse(high))

    def check(value: float) -> float:
        if not least <= value <= most:
            what = f"'{kind.format(value)}' is outside {low} to {high}; is the unit right?"
            raise PydanticCustomError("unit", "{message}", {"message": what})
        return value

    return AfterValidator(check)


def pattern(expression: str, *examples: str) -> WithJsonSchema:
    """The JSON Schema of a text with a unit."""
    return WithJsonSchema({"type": "string", "pattern": expression, "examples": list(examples)})


Bytes = Annotated[
    int,
    reads(parse_bytes),
    PlainSerializer(format_bytes, return_type=str),
    pattern(f"{NUMBER}{BYTE_UNITS}$", "12 GiB", "500 MB"),
]
"""Bytes as an int, from ``12 GiB`` or ``500 MB``."""

Bandwidth = Annotated[
    float,
    reads(parse_bandwidth),
    PlainSerializer(format_bandwidth, return_type=str),
    pattern(f"{NUMBER}{BYTE_UNITS}/s$", "3.35 TB/s", "25 GB/s"),
]
"""Bytes a second as a float, from ``25 GB/s``."""

NetworkRate = Annotated[
    float,
    reads(parse_network_rate),
    PlainSerializer(format_bandwidth, return_type=str),
    pattern(f"{NUMBER}({BYTE_UNITS}/s|([kMGTP]|[KMGTP]i)?(b|bit|bits)/s|[kMGTP]?bps)$", "100 Gb/s"),
]
"""Bytes a second as a float, from ``100 Gb/s`` or ``12.5 GB/s``."""

ComputeRate = Annotated[
    float,
    reads(parse_compute_rate),
    PlainSerializer(format_compute_rate, return_type=str),
    pattern(f"{NUMBER}[kMGTP](FL)?OP/s$", "989 TFLOP/s"),
]
"""Operations a second as a float, from ``989 TFLOP/s``."""

Duration = Annotated[
    float,
    reads(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    pattern(f"{NUMBER}(ns|us|µs|ms|s)$", "5 us"),
]
"""Nanoseconds as a float, from ``5 us``."""

Percent = Annotated[
    float,
    reads(parse_percent),
    PlainSerializer(format_percent, return_type=str),
    pattern(f"{NUMBER}%$", "25 %"),
]
"""A share between 0 and 1 as a float, from ``25 %``."""

_ONE_PERCENT = {"type": "string", "pattern": f"{NUMBER}%$", "examples": ["25 %"]}
Percents = Annotated[
    float | tuple[float, ...],
    reads(parse_percents),
    PlainSerializer(format_percents, return_type=str | list[str]),
    WithJsonSchema(
        {"anyOf": [_ONE_PERCENT, {"type": "array", "items": _ONE_PERCENT, "minItems": 1}]}
    ),
]
"""A ``Percent``, or some in a row as a tuple, from ``[96 %, 90 %]``."""


class Amount:
    """Reads and writes a float in the base unit of ``kind`` as text with one of its units."""

    def __init__(self, kind: Dimension) -> None:
        units = "|".join(re.escape(unit) for unit in kind.units)
        self._whole: Any = Annotated[
            float,
            reads(lambda text: float(kind.parse(text))),
            PlainSerializer(kind.format, return_type=str),
            pattern(f"{NUMBER}({units})$", kind.example),
        ]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        del source
        return handler.generate_schema(self._whole)


Hertz = Annotated[float, Amount(CLOCK)]
Watts = Annotated[float, Amount(POWER)]
WattsPerByte = Annotated[float, Amount(POWER_OF_MEMORY)]
JoulesPerByte = Annotated[float, Amount(ENERGY_PER_BYTE)]
GramsPerKwh = Annotated[float, Amount(CARBON)]
Grams = Annotated[float, Amount(MASS)]
Hours = Annotated[float, Amount(LIFE)]
Dollars = Annotated[float, Amount(PRICE)]
DollarsPerHour = Annotated[float, Amount(RENT)]
RequestsPerSecond = Annotated[float, Amount(REQUEST_RATE)]
DollarsPerKwh = Annotated[float, Amount(TARIFF)]

Capacity = Annotated[
    InstanceOf[ExpertCapacity],
    reads(parse_capacity),
    PlainSerializer(str, return_type=str),
    pattern(
        rf"^(all|auto)$|{NUMBER}({SLOTS}|{BYTE_UNITS}|%)$",
        "8 slots/layer",
        "12 GiB",
        "25 %",
        "auto",
        "all",
    ),
]
"""An ``ExpertCapacity``, from ``8 slots/layer``, ``12 GiB``, ``25 %``, ``auto`` or ``all``."""

KvRoom = Annotated[
    InstanceOf[KvCapacity],
    reads(parse_kv_capacity),
    PlainSerializer(str, return_type=str),
    pattern(rf"^auto$|{NUMBER}({BLOCKS}|{BYTE_UNITS}|%)$", "auto", "2588 blocks", "12 GiB", "90 %"),
]
"""A ``KvCapacity``, from ``auto``, ``2588 blocks``, ``12 GiB`` or ``90 %``."""

__all__ = [
    "Bandwidth",
    "Bytes",
    "Capacity",
    "ComputeRate",
    "Dollars",
    "DollarsPerHour",
    "DollarsPerKwh",
    "Duration",
    "ExpertCapacity",
    "Grams",
    "GramsPerKwh",
    "Hertz",
    "Hours",
    "JoulesPerByte",
    "KvCapacity",
    "KvRoom",
    "NetworkRate",
    "Percent",
    "Percents",
    "RequestsPerSecond",
    "Watts",
    "WattsPerByte",
]
