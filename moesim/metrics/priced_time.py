"""What of a run's time rests on which prices."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.outcome import Outcome
from moesim.hardware.provenance import SOURCES

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


def with_calls(spent: PricedTime, calls_ns: float) -> PricedTime:
    """``spent`` where copies that the host waits for were called for ``calls_ns`` of the time that
    they were waited for: so much of it is the host's.
    """
    copies = spent.priced.get(COPY)
    if copies is None or not copies.sum() or not calls_ns:
        return spent
    moved = min(calls_ns, float(copies.sum()))
    left = copies * (1 - moved / float(copies.sum()))
    return PricedTime({**spent.priced, COPY: left}, spent.host + moved)


def priced_time(outcome: Outcome) -> PricedTime:
    """What ``outcome`` was charged for, each charge split as its prices are: time that other work
    hides is charged to nobody. Without waiting for other GPUs and idle time.
    """
    charges = dict(zip(outcome.categories, outcome.charges.sum(axis=(0, 1)).tolist(), strict=True))
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
