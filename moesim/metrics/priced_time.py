"""What of a run's time rests on which prices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from moesim.engine.case import Floats
from moesim.engine.outcome import Outcome
from moesim.hardware.prices.provenance import SOURCES

COPY = "copy"


class PricedTime(NamedTuple):
    """Nanoseconds of the GPUs that they waited for or spent: ``priced`` by kind of operation, by
    source float64[5]; and those of the ``host``, its software's.
    """

    priced: dict[str, Floats]
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
    """What ``outcome`` was charged for, or of that only the nanoseconds in ``charges`` by category.
    Without waiting for other GPUs and idle time.
    """
    charges = charged(outcome) if charges is None else charges
    priced: dict[str, Floats] = defaultdict(lambda: np.zeros(len(SOURCES)))
    for (_, kind), nanoseconds in _by_charge(outcome, charges):
        priced[kind] += nanoseconds
    return PricedTime(dict(priced), float(charges["host"]))


def charged(outcome: Outcome) -> dict[str, int]:
    """Nanoseconds of the GPUs by what they were charged to."""
    sums = outcome.charges.sum(axis=(0, 1)).tolist()
    return dict(zip(outcome.categories, sums, strict=True))


def _by_charge(
    outcome: Outcome, charges: Mapping[str, float]
) -> Iterator[tuple[tuple[str, str], Floats]]:
    """Nanoseconds by source of each charge and kind of operation, each charge split as its prices
    are in the whole run: time that other work hides is charged to nobody.
    """
    whole: dict[str, float] = defaultdict(float)
    every = sorted(outcome.provenance.items(), key=lambda item: item[0])
    for (charge, _), nanoseconds in every:
        whole[charge] += float(nanoseconds.sum())
    for (charge, kind), nanoseconds in every:
        if whole[charge]:
            yield (charge, kind), charges[charge] * nanoseconds / whole[charge]


def operations(outcome: Outcome) -> Iterator[dict[str, str | float]]:
    """A row for each charge and kind of operation that took time of the GPUs: ``time_ns``, and that
    by ``provenance.SOURCES``; then one, of no ``operation``, for each charge that has no price, and
    for idle time: all add up to the time of all GPUs.
    """
    charges, priced = charged(outcome), set()
    charges["idle"] = outcome.starts.shape[1] * outcome.duration_ns - sum(charges.values())
    for (charge, kind), nanoseconds in _by_charge(outcome, charges):
        by_source = {f"{name}_ns": part for name, part in zip(SOURCES, nanoseconds, strict=True)}
        priced.add(charge)
        yield {"charge": charge, "operation": kind, "time_ns": nanoseconds.sum(), **by_source}
    for charge in charges:
        if charge not in priced:
            nothing = dict.fromkeys((f"{name}_ns" for name in SOURCES), 0.0)
            yield {"charge": charge, "operation": "", "time_ns": charges[charge], **nothing}


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
