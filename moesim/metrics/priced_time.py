"""What of a run's time rests on which prices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.outcome import Outcome
from moesim.hardware.prices.provenance import SOURCES

COPY = "copy"


class PricedTime(NamedTuple):
    """Nanoseconds of the GPUs that they waited for or spent: ``priced`` by kind of operation, by
    source float64[5]; and those of the ``host``, its software's.
    """

    priced: dict[str, NDArray[np.float64]]
    host: float

    @property
    def total(self) -> float:
        """Of both."""
        return float(sum(part.sum() for part in self.priced.values())) + self.host


def calls_of_copies(spent: PricedTime, calls_ns: float) -> float:
    """The share of the time in which ``spent`` has copies that the host took for calling them,
    where it waits for each: ``calls_ns`` in all.
    """
    copies = spent.priced.get(COPY)
    waited = 0.0 if copies is None else float(copies.sum())
    return min(calls_ns / waited, 1.0) if waited else 0.0


def with_calls(spent: PricedTime, share: float) -> PricedTime:
    """``spent`` where so large a ``share`` of the time of copies is the host's."""
    copies = spent.priced.get(COPY)
    if copies is None or not share:
        return spent
    moved = share * float(copies.sum())
    return PricedTime({**spent.priced, COPY: copies * (1 - share)}, spent.host + moved)


def priced_time(outcome: Outcome, charges: Mapping[str, float] | None = None) -> PricedTime:
    """What ``outcome`` was charged for, or of that only the nanoseconds in ``charges`` by category,
    each charge split as its prices are in the whole run: time that other work hides is charged to
    nobody. Without waiting for other GPUs and idle time.
    """
    if charges is None:
        sums = outcome.charges.sum(axis=(0, 1)).tolist()
        charges = dict(zip(outcome.categories, sums, strict=True))
    whole: dict[str, float] = defaultdict(float)
    every = sorted(outcome.provenance.items(), key=lambda item: item[0])
    for (charge, _), nanoseconds in every:
        whole[charge] += float(nanoseconds.sum())
    priced: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(len(SOURCES)))
    for (charge, kind), nanoseconds in every:
        if whole[charge]:
            priced[kind] += charges[charge] * nanoseconds / whole[charge]
    return PricedTime(dict(priced), float(charges["host"]))


def price_share(outcome: Outcome) -> dict[str, float]:
    """The provenance of the priced and the host's time, by ``provenance.SOURCES`` and ``software``;
    sums to 1.
    """
    spent = priced_time(outcome)
    total = spent.total
    by_source = (
        np.sum(list(spent.priced.values()), axis=0) if spent.priced else np.zeros(len(SOURCES))
    )
    named = dict(zip(SOURCES, by_source.tolist(), strict=True)) | {"software": spent.host}
    return {name: part / total if total else 0.0 for name, part in named.items()}
