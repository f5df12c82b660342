"""The parts whose sum is a price: how long each takes, what it rests on and what is in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.prices.provenance import Source, by_source

if TYPE_CHECKING:
    from moesim.hardware.prices.arrays import Floats
    from moesim.hardware.prices.calibrated import Fit, Ranges
    from moesim.hardware.prices.ratio_table import Found


MEASURED = "measured beyond the formula"
"""The name of what measured times add to a formula's, or take from it."""


class Amount(NamedTuple):
    """What takes time within a part [n]; where it is known, the ``amount`` (bytes, or operations of
    products) and the rate: ``fraction`` of a ``peak`` a second.
    """

    name: str
    time_ns: Floats
    amount: Floats | None = None
    unit: str = ""
    peak: float = 0.0
    fraction: float = 1.0


class Detail(NamedTuple):
    """What is in a part, and the fit behind it. Of amounts with a rate the longest is the part's
    time; terms of a fit overlap as its formula says.
    """

    amounts: Sequence[Amount] = ()
    fit: Fit | None = None


class Part(NamedTuple):
    """Nanoseconds [n] of a part, and what they rest on: one ``Source``, or one each [n].

    ``of`` is asked where a price is explained, never in a run.
    """

    time_ns: Floats
    source: Source | NDArray[np.int64] = Source.DATASHEET
    name: str = ""
    of: Callable[[], Detail] = Detail


def together(parts: Sequence[Part]) -> Floats:
    """The prices [n]."""
    return np.asarray(sum(part.time_ns for part in parts), np.float64)


def where(mask: NDArray[np.bool_], parts: Sequence[Part]) -> list[Part]:
    """The parts, which take no time where ``mask`` is false."""
    return [part._replace(time_ns=np.where(mask, part.time_ns, 0.0)) for part in parts]


def provenance_of(price_ns: Floats, parts: Sequence[Part]) -> Floats:
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


def tabled_source(
    ranges: Ranges, shape: Mapping[str, Floats | float], found: Found | None
) -> NDArray[np.int64]:
    """As ``fitted_source``, and what a table has of it: measured, or between what was; [n]."""
    source = fitted_source(ranges, shape)
    if found is None:
        return source
    tabled = np.where(found.measured, Source.MEASURED, Source.INTERPOLATED)
    return np.where(found.within & (source == Source.FITTED), tabled, source)
