"""The kinds of amounts, and their text: ``12 GiB`` to 12884901888 and back.

GB = 1e9 bytes, GiB = 2^30 bytes. A number without a unit is refused, and so are bits where bytes
are meant. What ``format_...`` writes, ``parse_...`` reads as the same number.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from moesim.config.amounts.quantity import Dimension, QuantityError

_SI = {"k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
_DECIMAL = {prefix: Fraction(10**power) for prefix, power in _SI.items()}
_BINARY = {f"{p}i": Fraction(1 << 10 * (i + 1)) for i, p in enumerate(("K", "M", "G", "T", "P"))}
_BYTES = {
    "B": Fraction(1),
    **{f"{prefix}B": size for prefix, size in (_DECIMAL | _BINARY).items()},
}
_BITS = {
    spelling: unit
    for unit in _BYTES
    for spelling in (f"{unit[:-1]}b", f"{unit[:-1]}bit", f"{unit[:-1]}bits")
}
_RATES = {f"{unit}/s": size for unit, size in _BYTES.items()}
_BIT_RATES = {f"{bit}/s": f"{unit}/s" for bit, unit in _BITS.items()} | {
    f"{unit[:-1]}bps": f"{unit}/s" for unit in _BYTES
}
_NETWORK = _RATES | {bit: _RATES[unit] / 8 for bit, unit in _BIT_RATES.items()}
_COMPUTE = {f"{prefix}FLOP/s": size for prefix, size in _DECIMAL.items()}
_OPERATIONS = {f"{prefix}OP/s": size for prefix, size in _DECIMAL.items()}
_POWERS = {"ns": 0, "us": 3, "µs": 3, "ms": 6, "s": 9}
_TIMES = {name: Fraction(10**power) for name, power in _POWERS.items()}

BYTES = Dimension("an amount of memory", "12 GiB", _BYTES, _BITS, (1 << 63) - 1)
BANDWIDTH = Dimension("a bandwidth", "25 GB/s", _RATES, _BIT_RATES)
NETWORK_RATE = Dimension("a network rate", "100 Gb/s", _NETWORK, {})
COMPUTE_RATE = Dimension("a compute rate", "989 TFLOP/s", _COMPUTE | _OPERATIONS, {})
CLOCK = Dimension("a clock", "3.5 GHz", {"GHz": Fraction(10**9), "MHz": Fraction(10**6)}, {})
DURATION = Dimension("a duration", "5 us", _TIMES, {})
PERCENT = Dimension("a share", "25 %", {"%": Fraction(1, 100)}, {})

_PER_TIME = {"s": Fraction(1), "min": Fraction(1, 60), "h": Fraction(1, 3600)}
_REQUESTS = {f"{of}/{t}": n for of in ("requests", "request") for t, n in _PER_TIME.items()}
REQUEST_RATE = Dimension(
    "a rate of requests", "4 requests/s", _REQUESTS, {},
    endless="all requests come at the start with arrivals: {kind: at_once}; a closed loop without "
    "a rate sends each as soon as it may",
)  # fmt: skip

_THOUSAND, _KILO = Fraction(1, 1000), Fraction(1000)
_WATTS = {"W": Fraction(1), "mW": _THOUSAND, "kW": _KILO}
_PER_GB = {f"{unit}/GB": size / 10**9 for unit, size in _WATTS.items()}
_JOULES = {"J": Fraction(1), "nJ": Fraction(1, 10**9), "pJ": Fraction(1, 10**12)}
_PER_BYTE = {f"{unit}/B": size for unit, size in _JOULES.items()}
_PER_BIT = {f"{unit}/bit": size * 8 for unit, size in _JOULES.items()}
_DAY = Fraction(24)
_LIVES = {"h": Fraction(1), "days": _DAY, "day": _DAY}
_LIVES |= {"years": 365 * _DAY, "year": 365 * _DAY}
_MONEY = {"$": Fraction(1), "USD": Fraction(1)}

POWER = Dimension("a power", "350 W", _WATTS, {})
POWER_OF_MEMORY = Dimension("a power of memory", "0.1 W/GB", _PER_GB, {})
ENERGY_PER_BYTE = Dimension("an energy a byte", "6 pJ/bit", _PER_BYTE | _PER_BIT, {})
CARBON = Dimension(
    "a carbon intensity", "400 g/kWh", {"g/kWh": Fraction(1), "kg/MWh": Fraction(1),
                                        "kg/kWh": _KILO}, {}
)  # fmt: skip
MASS = Dimension("a mass", "150 kg", {"g": Fraction(1), "kg": _KILO, "t": _KILO**2}, {})
LIFE = Dimension("a life", "4 years", _LIVES, {})
PRICE = Dimension("a price", "1600 $", _MONEY, {})
RENT = Dimension("a price of an hour", "2.5 $/h", {f"{m}/h": n for m, n in _MONEY.items()}, {})
TARIFF = Dimension(
    "a price of electricity", "0.3 $/kWh", {f"{m}/kWh": n for m, n in _MONEY.items()}, {}
)


def parse_bytes(text: Any) -> int:
    """``"12 GiB"`` in bytes, rounded down to whole ones; a QuantityError for anything else."""
    return int(BYTES.parse(text))


def format_bytes(value: int) -> str:
    """``value`` bytes in the largest unit that divides them."""
    return BYTES.format_whole(value)


def parse_bandwidth(text: Any) -> float:
    """``"25 GB/s"`` in bytes a second."""
    return float(BANDWIDTH.parse(text))


def parse_network_rate(text: Any) -> float:
    """``"100 Gb/s"`` or ``"12.5 GB/s"`` in bytes a second."""
    return float(NETWORK_RATE.parse(text))


def format_bandwidth(value: float) -> str:
    """``value`` bytes a second in the largest unit of at most its size."""
    return BANDWIDTH.format(value)


def parse_compute_rate(text: Any) -> float:
    """``"989 TFLOP/s"`` in operations a second."""
    return float(COMPUTE_RATE.parse(text))


def format_compute_rate(value: float) -> str:
    """``value`` operations a second in the largest unit of at most its size."""
    return COMPUTE_RATE.format(value)


def parse_duration(text: Any) -> float:
    """``"5 us"`` in nanoseconds."""
    return float(DURATION.parse(text))


def format_duration(value: float) -> str:
    """``value`` nanoseconds in the largest unit of at most its size."""
    return DURATION.format(value)


def parse_percent(text: Any) -> float:
    """``"25 %"`` as 0.25; a QuantityError above 100 %."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise QuantityError(f"{text} has no unit; write a percentage as in '25 %'")
    share = PERCENT.parse(text)
    if share > 1:
        raise QuantityError(f"'{text}' is more than 100 %; write a share of the whole")
    return float(share)


def format_percent(value: float) -> str:
    """0.25 as ``"25 %"``."""
    return PERCENT.format(value)


def parse_percents(value: Any) -> float | tuple[float, ...]:
    """``"25 %"`` as 0.25, and a list of such as a tuple; a QuantityError for an empty one."""
    if not isinstance(value, list | tuple):
        return parse_percent(value)
    if not value:
        raise QuantityError("the list is empty; write a share such as '25 %', or some")
    return tuple(parse_percent(one) for one in value)


def format_percents(value: float | tuple[float, ...]) -> str | list[str]:
    """0.25 as ``"25 %"``, and a tuple of such as a list."""
    if isinstance(value, tuple):
        return [format_percent(one) for one in value]
    return format_percent(value)
