"""How wrong prices may be: what fits were off by on shapes they had not seen, and priors."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from moesim.hardware.calibrated import Fit
from moesim.hardware.left_out import HeldOut
from moesim.hardware.operation import Operation
from moesim.hardware.operations.experts.error import LEFT_OUT
from moesim.hardware.operations.kernels.cpu_expert import REACHED, share_is_prior
from moesim.hardware.profile import HardwareProfile
from moesim.hardware.provenance import SOURCES, Source

CONFIDENCE = 0.9
"""Of a spread: as much lies below it as above."""
GPU, HOST = "gpu", "host"


class Spread(NamedTuple):
    """What prices are off by, all at once: ``of`` names it, and prices with one name are off
    together. Measured over priced time lies between ``low`` and ``high`` in ``CONFIDENCE`` of all
    cases; both None where nothing is known of it. ``rests_on``: the ``SOURCES`` of these prices,
    where others of that name are off by more or less.
    """

    of: str
    low: float | None = None
    high: float | None = None
    rests_on: str | None = None

    @property
    def known(self) -> bool:
        """Whether there is an error."""
        return self.low is not None


def spread_of(operation: Operation, source: Source, machine: dict[str, str]) -> Spread:
    """The spread of prices of ``operation`` that rest on ``source``; ``machine``: the names of its
    ``gpu`` and its ``host``.

    A shape between measured ones, or that a formula has, is off by what its fit was off by on
    shapes left out (p90), and one beyond them by the largest of these errors; of several fits of an
    operation the largest error counts. Of a measured shape none is known: how far another
    measurement of it would lie is not recorded.
    """
    if source is Source.DATASHEET:
        return _datasheet(operation.machine_part, operation.hardware, machine)
    family = f"{_family(operation)} of {machine[GPU]}"
    errors = [] if source is Source.MEASURED else [*_errors(operation.fits, source)]
    low, high = _both_ways(max(errors)) if errors else (None, None)
    return Spread(family, low, high, SOURCES[source])


def _family(operation: Operation) -> str:
    """The folder of its family; the kind of a package's own."""
    inside = type(operation).__module__.removeprefix("moesim.hardware.operations.")
    return inside.split(".")[0] if inside != type(operation).__module__ else operation.kind


def _errors(fits: tuple[Fit, ...], source: Source) -> Iterator[float]:
    """Percent."""
    for fit in fits:
        found: HeldOut | None = fit.held_out if source is Source.FITTED else fit.unseen
        if found is not None:
            outside = source is Source.OUTSIDE
            yield found.largest_percent if outside else found.p90_percent


def _both_ways(percent: float) -> tuple[float, float]:
    """A price may be as many times too high as too low."""
    times = 1 + percent / 100
    return 1 / times, times


def _datasheet(part: str, hardware: HardwareProfile, machine: dict[str, str]) -> Spread:
    """Of prices from the numbers of a ``part`` of the machine."""
    if part == GPU:
        of_cards = median(p90 for _, p90 in LEFT_OUT.values())
        return Spread(f"datasheet of {machine[GPU]}", *_both_ways(of_cards))
    if part != HOST:
        return Spread(part or "stated times")
    of = f"experts on the CPU of {machine[HOST]}"
    if not share_is_prior(hardware) or (share := hardware.host.expert_fraction) is None:
        return Spread(of)
    least, most = REACHED
    return Spread(of, share.value / most, share.value / least)
