"""Prices made of parts that rest on different sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.basis import Source, by_source
from moesim.hardware.calibrated import Ranges
from moesim.hardware.roofline import Floats


class Part(NamedTuple):
    """Nanoseconds [n] of a part, and what they rest on: one ``Source``, or one each [n]."""

    time_ns: Floats
    source: Source | NDArray[np.int64]


def together(parts: Sequence[Part]) -> Floats:
    """The prices [n]."""
    return np.asarray(sum(part.time_ns for part in parts), np.float64)


def resting(price_ns: Floats, parts: Sequence[Part]) -> Floats:
    """Nanoseconds by source float64[5]: each price is shared out as its parts have it."""
    price = np.ravel(price_ns)
    times = [np.broadcast_to(part.time_ns, np.shape(price_ns)).ravel() for part in parts]
    whole = np.maximum(np.sum(times, axis=0), np.finfo(np.float64).tiny)
    found = [
        by_source(price * (time / whole), np.broadcast_to(part.source, np.shape(price_ns)))
        for time, part in zip(times, parts, strict=True)
    ]
    return np.asarray(np.sum(found, axis=0), np.float64)


def fitted_source(ranges: Ranges, shape: Mapping[str, Floats | float]) -> NDArray[np.int64]:
    """``FITTED``, or ``OUTSIDE`` where a column of ``shape`` lies beyond ``ranges``; [n]."""
    beyond = np.zeros(np.broadcast_shapes(*(np.shape(values) for values in shape.values())), bool)
    for name, values in shape.items():
        if name in ranges:
            least, largest = ranges[name]
            beyond = beyond | (np.asarray(values) < least) | (np.asarray(values) > largest)
    return np.where(beyond, Source.OUTSIDE, Source.FITTED).astype(np.int64)
