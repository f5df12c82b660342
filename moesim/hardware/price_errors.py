"""How wrong prices may be: what fits were off by on shapes they had not seen, and priors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import exp, hypot, log
from statistics import median
from typing import NamedTuple

from moesim.config.params import Params
from moesim.hardware.described.reached import (
    EXPERT_PARALLEL,
    VERSIONS,
    copies_reach,
    faults_reach,
    kernels_reach,
)
from moesim.hardware.described.software import SoftwareProfile
from moesim.hardware.described.sourced import sources_used
from moesim.hardware.load import software_names
from moesim.hardware.operation import Operation
from moesim.hardware.operations.copies.storage_read import faults_are_prior
from moesim.hardware.operations.experts.error import LEFT_OUT, stands_in
from moesim.hardware.operations.kernels.cpu_expert import (
    FEW_CORES,
    FITTED,
    FITTED_OFF,
    OF_READS,
    PRODUCTS_OFF,
    REACHED,
    share_is_fitted,
    share_is_measured,
    share_is_prior,
)
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.provenance import SOURCES, Source
from moesim.hardware.profile import HardwareProfile

CONFIDENCE = 0.9
"""Of a spread: as much lies below it as above."""
GPU, HOST, LINK, STORAGE, SOFTWARE = "gpu", "host", "link", "storage", "software"
EXPERTS, ON_CPU, DATASHEET_OF = "experts", "experts on the CPU of ", "datasheet of "
FRAMEWORKS = frozenset({"vllm", "sglang", "trtllm"})
"""Whose kernels the tables of engines have."""
NOBODYS = ("NCCL", "torch.")
"""How kernels begin that all of them call."""
PCIE, GIVEN = "PCIe", "given"
"""What the sources of a slot, and of a number that a user gives, begin with."""


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


class Machine(NamedTuple):
    """The names of the ``gpu`` and the ``host``, whether copies are from ``pinned`` memory, experts
    are ``shared`` out over GPUs, and storage is read by page faults of a ``mapped`` file; the
    ``kind`` of host, all of which are off together where nobody measured them.
    """

    gpu: str
    host: str
    pinned: bool = True
    shared: bool = False
    mapped: bool = False
    kind: str = ""


def spread_of(
    operation: Operation, source: Source, machine: Machine, fits: tuple[Fit, ...] | None = None
) -> Spread:
    """The spread of prices of ``operation`` that rest on ``source``; of those of ``fits`` where
    these are told, else of all that it may be priced by.

    A shape between measured ones, or that a formula has, is off by what its fit was off by on
    shapes left out (p90), and one beyond them by the largest of these errors; of several fits of an
    operation the largest error counts, and one of too few shapes is off as a card without any. All
    of an engine's kernels are off by what another version of it changes, and a GPU's part of the
    experts by what tables of such parts say; of a shape that was measured with what ran, none is
    known.
    """
    if source is Source.DATASHEET:
        return _datasheet(operation, machine)
    fits = operation.fits if fits is None else fits
    family = _name(operation, machine)
    known = []
    if source is not Source.MEASURED:
        errors = [*_errors(fits, source)] or [_of_cards()]
        known = [_both_ways(max(errors))]
    engines = {(fit.framework or "").lower() for fit in fits}
    if engines & FRAMEWORKS:
        known.append(VERSIONS)
    if machine.shared and operation.kind == EXPERTS:
        known.append(EXPERT_PARALLEL)
    low, high = _together(known) if known else (None, None)
    return Spread(family, low, high, SOURCES[source])


def fits_of(
    operations: Iterable[Operation], machine: Machine, framework: str | None
) -> dict[str, list[str]]:
    """The fits that prices of ``operations`` may be of, by the names of their spreads; one of
    another engine's kernel than those of the ``framework`` that runs says so.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for operation in operations:
        for fit in operation.fits:
            engines = (fit.framework or "").lower() in FRAMEWORKS
            apart = engines and not (fit.kernel or "").startswith(NOBODYS)
            told = fit.label + (stands_in(fit, framework) if apart else "")
            found[_name(operation, machine)].add(told)
    return {name: sorted(fits) for name, fits in found.items()}


def software_spread(software: SoftwareProfile, *, serves: bool) -> Spread:
    """Of the software's own times, by the ranges that its sources give; ``serves``: of those that
    a host takes between steps of requests, else of launches, copies and waits.
    """
    return Spread(
        f"{SOFTWARE} {without_variant(software.name)}", *(software.range_of(serves=serves) or ())
    )


def frontend_spread(software: SoftwareProfile, times: Mapping[str, float]) -> Spread:
    """Of what requests and tokens are on their way: so many of each of its ``times``, by name."""
    return Spread(
        f"front end of {without_variant(software.name)}", *(software.ends_of(times) or ())
    )


def without_variant(name: str) -> str:
    """The software of which the one of that ``name`` is a variant, of the same version: what its
    own times are off by is the same. Itself, where it is none.
    """
    of = name.partition("-")[0]
    return of if of in software_names() else name


def _together(ends: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of errors that are independent: their logarithms add up in quadrature."""
    low, high = (hypot(*(log(pair[side]) for pair in ends)) for side in (0, 1))
    return exp(-low), exp(high)


def _name(operation: Operation, machine: Machine) -> str:
    return f"{_family(operation)} of {machine.gpu}"


def _family(operation: Operation) -> str:
    """The folder of its family; the kind of a package's own."""
    inside = type(operation).__module__.removeprefix("moesim.hardware.operations.")
    return inside.split(".")[0] if inside != type(operation).__module__ else operation.kind


def _errors(fits: tuple[Fit, ...], source: Source) -> Iterator[float]:
    """Percent."""
    outside = source is Source.OUTSIDE
    for fit in fits:
        found = fit.outside if outside else fit.unseen
        if (found := fit.held_out if source is Source.FITTED else found) is not None:
            yield found.largest_percent if outside else found.p90_percent


def _both_ways(percent: float) -> tuple[float, float]:
    """A price may be as many times too high as too low."""
    times = 1 + percent / 100
    return 1 / times, times


def _of_cards() -> float:
    """What cards were off by that were priced by the others' fractions (p90), in percent."""
    return median(p90 for _, p90 in LEFT_OUT.values())


def _datasheet(operation: Operation, machine: Machine) -> Spread:
    """Of prices from the numbers of a part of the machine."""
    part, hardware = operation.machine_part, operation.hardware
    if part == GPU:
        return _kernels(operation, machine)
    if part == LINK:
        host = machine.kind if machine.kind and machine.host != machine.gpu else machine.host
        of = f"link of {' and '.join(dict.fromkeys((machine.gpu, host)))}"
        return Spread(of, *_link(hardware, pinned=machine.pinned))
    if part == STORAGE and machine.mapped:
        return Spread("page faults on storage", *_faults(hardware))
    if part == STORAGE:
        return Spread(part, *_of_one_run(hardware, hardware.host.storage))
    if part != HOST:
        return Spread(part or "stated times")
    name = machine.kind if machine.kind and share_is_prior(hardware) else machine.host
    return Spread(f"{ON_CPU}{name}", *_host(hardware))


def _kernels(operation: Operation, machine: Machine) -> Spread:
    """Of kernels of a card without measurements, a GPU's part of the experts apart, as such parts
    are off beside it.
    """
    of, found = f"{DATASHEET_OF}{machine.gpu}", _reached(operation.hardware, machine.gpu)
    if found and machine.shared and operation.kind == EXPERTS:
        return Spread(f"{of}, parts of experts", *_together([found, EXPERT_PARALLEL]))
    return Spread(of, *found)


def _reached(hardware: HardwareProfile, gpu: str) -> tuple[float, float] | tuple[()]:
    """Of llama.cpp's kernels by its runs on other cards, of others' by one version's tables of
    cards that are like it, but for a card that was fitted to a run.
    """
    if hardware.runs_ggml:
        return kernels_reach(gpu)
    if not hardware.datasheet.like_measured:
        return ()
    fitted = _of_one_run(hardware, hardware.datasheet)
    return fitted or _together([_both_ways(_of_cards()), VERSIONS])


def _of_one_run(hardware: HardwareProfile, part: Params | None) -> tuple[float, float] | tuple[()]:
    """Of a ``part`` with a number that was fitted to one run: as a host's (assumed, after results
    of a phone had been seen); none of others.
    """
    texts = [hardware.sources.get(source, "") for _, source in sources_used(part)]
    return FITTED_OFF if any(text.startswith(FITTED) for text in texts) else ()


def _host(hardware: HardwareProfile) -> tuple[float, float] | tuple[()]:
    """Of experts on the CPU whose share of memory is a prior, was fitted to a run, or whose reads
    were measured.
    """
    if share_is_fitted(hardware):
        return FITTED_OFF
    if share_is_measured(hardware):
        low, high = PRODUCTS_OFF
        return low, high if hardware.host.cores.value <= FEW_CORES else 1 / OF_READS
    if not share_is_prior(hardware):
        return ()
    share, (least, most) = hardware.host.expert_share, REACHED
    return share.value / most, share.value / least


def _link(hardware: HardwareProfile, *, pinned: bool) -> tuple[float, float] | tuple[()]:
    """Of copies over PCIe, whose bandwidth is another machine's; none of one's own number."""
    sheet = hardware.datasheet
    kinds = sheet.copies.h2d.pinned if pinned else sheet.copies.h2d.pageable
    texts = [hardware.sources.get(one.source, "") for one in (sheet.pcie, kinds.bandwidth)]
    if not texts[0].startswith(PCIE) or texts[1].startswith(GIVEN):
        return ()
    rate = kinds.bandwidth.value / 1e9
    least, most = copies_reach(sheet.pcie.value / 1e9, pinned=pinned)
    return min(rate / most, 1.0), max(rate / least, 1.0)


def _faults(hardware: HardwareProfile) -> tuple[float, float] | tuple[()]:
    """Of page faults, whose rate is another drive's; none of one's own number."""
    if not faults_are_prior(hardware):
        return ()
    drive = hardware.host.storage
    assert drive is not None, "it is read"
    assert drive.mapped_bandwidth is not None, "by page faults"
    share, (least, most) = drive.mapped_bandwidth.value / drive.bandwidth.value, faults_reach()
    return min(share / most, 1.0), max(share / least, 1.0)
