"""Numbers of twice the precision of a float, as pairs of floats (high, low) whose sum they are,
compiled (Hida, Li and Bailey, "Algorithms for quad-double precision floating point arithmetic",
2001). A result is off by less than 1e-30 of it.
"""

from __future__ import annotations

from math import floor
from typing import Any

from moesim.runtime.compiled import inlined

Twice = tuple[float, float]
SPLIT = 134217729.0
"""2**27 + 1: it cuts a float into halves whose products are exact."""


@inlined
def _sum(a: float, b: float) -> Twice:
    """``a + b``, and what that rounds off."""
    total = a + b
    added = total - a
    return total, (a - (total - added)) + (b - added)


@inlined
def _falling(a: float, b: float) -> Twice:
    """As ``_sum``, where ``a`` is the larger."""
    total = a + b
    return total, b - (total - a)


@inlined
def product(a: float, b: float) -> Any:
    """``a * b``, exactly."""
    whole, cut_a, cut_b = a * b, SPLIT * a, SPLIT * b
    high_a, high_b = cut_a - (cut_a - a), cut_b - (cut_b - b)
    low_a, low_b = a - high_a, b - high_b
    off = ((high_a * high_b - whole) + high_a * low_b + low_a * high_b) + low_a * low_b
    return whole, off


@inlined
def plus(x: Twice, y: Twice) -> Any:
    """Their sum."""
    high, off = _sum(x[0], y[0])
    low, rest = _sum(x[1], y[1])
    high, off = _falling(high, off + low)
    return _falling(high, off + rest)


@inlined
def less(x: Twice, y: Twice) -> Any:
    """``x`` less ``y``."""
    return plus(x, (-y[0], -y[1]))


@inlined
def times(x: Twice, y: Twice) -> Any:
    """Their product."""
    high, off = product(x[0], y[0])
    return _falling(high, off + (x[0] * y[1] + x[1] * y[0]))


@inlined
def over(x: Twice, y: Twice) -> Any:
    """``x`` over ``y``."""
    first = x[0] / y[0]
    rest = less(x, times(y, (first, 0.0)))
    second = rest[0] / y[0]
    rest = less(rest, times(y, (second, 0.0)))
    high, low = _falling(first, second)
    return plus((high, low), (rest[0] / y[0], 0.0))


@inlined
def is_below(x: Twice, y: Twice) -> bool:
    """Whether ``x`` is less than ``y``."""
    return x[0] < y[0] or (x[0] == y[0] and x[1] < y[1])


@inlined
def cut(x: Twice) -> tuple[int, Twice]:
    """The greatest whole number up to ``x``, and the rest."""
    whole = floor(x[0])
    if whole == x[0] and x[1] < 0:
        whole -= 1
    return int(whole), less(x, (float(whole), 0.0))
