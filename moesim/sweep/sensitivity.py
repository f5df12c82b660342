"""Which of an experiment's inputs moves its speed most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import yaml

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.config.files.files import write_whole
from moesim.config.strict_yaml.yaml import with_end_mark
from moesim.experiment.loading.once import read_once
from moesim.experiment.loading.warnings import (
    borrowed_routing,
    empty_slots,
    idle_prefetch,
    is_timed,
    of_inputs,
    paced,
)
from moesim.experiment.running.price_ranges import played_once
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import HardwareProfile, load_hardware, load_software
from moesim.hardware.described.software import OFFLOADING, SERVING
from moesim.hardware.operations.kernels.cpu_expert import share_is_prior
from moesim.hardware.price_errors import DATASHEET_OF, ON_CPU
from moesim.metrics.price_interval import busy_rows, time_limits
from moesim.sweep.advise.choices import with_settings
from moesim.sweep.advise.profiles import write_upgrade
from moesim.sweep.advise.ranges import CONTEXT, DRIVE, HOST, NODES, TRACE, variations
from moesim.sweep.advise.upgrades import (
    Upgrade,
    cores,
    dram,
    drive,
    gpu_bandwidth,
    link,
    peers,
)
from moesim.sweep.runs import Runs
from moesim.sweep.speeds import OF_A_REQUEST, TOGETHER, speed_of

AS_IS, FOLDER = "as_is", "inputs"
GUESSED = {
    HOST: "experts on the CPU: share of the DRAM peak",
    NODES: "experts on the CPU: what the other NUMA nodes add",
    DRIVE: "page faults: share of the drive's reads",
    TRACE: "routing: which stand-in trace",
}
"""What nobody measured, by what ``variations`` calls it."""
ASKED = {CONTEXT: "context: the one asked for, or the trace's own"}
"""The same of what the experiment says, which is no guess."""
Change = Callable[[HardwareProfile, float], HardwareProfile]
Ends = tuple[float, float]
LINK_OF, SOFTWARE_OF = "link of ", "software "
"""How the names of their prices begin in a run's interval."""
SAME = 1e-6
"""Of a number that is scaled by nothing."""


@dataclass(frozen=True)
class Number:
    """A number of the machine: its ``title``, how it changes by a factor, the parts of a profile
    whose source tells whether somebody measured it, and what measures it.
    """

    title: str
    change: Change
    parts: Callable[[HardwareProfile], Iterable[Any]]
    measured_by: str


PEERS, PEERS_OF = "peers", "collectives of "
DRIVEN = "your drive: 'moesim calibrate drive'"
MACHINE: Mapping[str, Number] = {
    "gpu_bandwidth": Number(
        "GPU memory bandwidth",
        gpu_bandwidth,
        lambda of: (of.datasheet.memory_bandwidth, of.datasheet.bandwidth_fraction),
        "your GPU's kernels: 'moesim calibrate collect'",
    ),
    "link": Number(
        "link between host and GPU",
        link,
        lambda of: (of.datasheet.copies.h2d.pinned.bandwidth,),
        "copies to your GPU: 'moesim calibrate collect'",
    ),
    PEERS: Number(
        "links between GPUs",
        peers,
        lambda of: (of.datasheet.peers.bandwidth, of.network and of.network.bandwidth),
        "what your GPUs send one another: nccl-tests, for 'moesim calibrate import'",
    ),
    "dram": Number(
        "DRAM bandwidth",
        dram,
        lambda of: (of.host.memory_bandwidth, of.host.memory_fraction),
        "your DRAM: 'moesim calibrate memory', or one run for 'moesim calibrate host'",
    ),
    "cores": Number("CPU cores", cores, lambda of: (of.host.cores,), "how many cores you have"),
    "drive": Number(
        "what comes from the drive a second",
        drive,
        lambda of: (of.host.storage and of.host.storage.bandwidth,),
        DRIVEN,
    ),
}
SOFTWARE = "software's launches, copies, waits and steps"
KERNELS = "GPU kernels priced by fits"
MEASURED_BY = {one.title: one.measured_by for one in MACHINE.values()} | {
    SOFTWARE: "your engine: 'moesim calibrate software'",
    KERNELS: MACHINE["gpu_bandwidth"].measured_by,
    GUESSED[HOST]: "one run of this host: 'moesim calibrate host'",
    GUESSED[NODES]: "one run of this host: 'moesim calibrate host'",
    GUESSED[DRIVE]: DRIVEN,
    GUESSED[TRACE]: "the model's own routing: 'moesim trace record', or an import",
}
SLOWER_CORES = (
    "More CPU cores are slower here: each is a thread, which all wait for one another after a"
    " kernel, the longer the more there are; hardware.host.threads says how many there are."
)
PRIOR = ("prior", "unverified", "assumed")
"""How a source begins whose number nobody measured."""
LEAST = 0.005
"""Of the speed: what moves it less need not be measured."""
OWN_TIMES = (*OFFLOADING, *SERVING, "thread_wait_ns")
"""Of a software profile."""
LEFT_OUT = "the sweep is left out; --set PATH=VALUE sets what one of its points has"


@dataclass(frozen=True)
class Moved:
    """One run: ``of`` which input, what it is set to in ``words``; whether it is a guess, and its
    tokens a second, None where it did not run, and ``why``; whether it is ``ranged``: set to an end
    of what is known of it, and not so many times as large as all are.
    """

    of: str
    words: str
    guess: bool = False
    throughput: float | None = None
    why: str = ""
    ranged: bool = False


@dataclass(frozen=True)
class Input:
    """All runs of an input, beside the speed of the experiment ``as_is``."""

    title: str
    runs: tuple[Moved, ...]
    as_is: float

    @property
    def guess(self) -> bool:
        """Whether nobody measured it."""
        return any(one.guess for one in self.runs)

    @property
    def ranged(self) -> bool:
        """Whether it lies between the ends of its range, and is not scaled as all are."""
        return any(one.ranged for one in self.runs)

    @property
    def mark(self) -> str:
        """What stands behind its title: that it has a range, or is a guess without one."""
        return " (its range)" if self.ranged else " (a guess)" if self.guess else ""

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the most tokens a second."""
        found = [self.as_is, *(one.throughput for one in self.runs if one.throughput)]
        return min(found), max(found)

    @property
    def span(self) -> float:
        """From the least to the most, as a share of the speed as it is."""
        low, high = self.ends
        return (high - low) / self.as_is


@dataclass(frozen=True)
class Sensitivity:
    """The inputs of an experiment, the one that moves its speed most first; ``notes`` on it, and
    the ``unit`` of all speeds.
    """

    name: str
    folder: Path
    as_is: float
    factor: float
    inputs: tuple[Input, ...]
    notes: tuple[str, ...] = ()
    unit: str = TOGETHER

    @property
    def measure_first(self) -> Input | None:
        """Of what nobody measured, what moves the speed most; None where there is nothing."""
        return next((one for one in self.inputs if one.guess and one.span > LEAST), None)


@read_once()
def sensitivity(experiment: Experiment, runs: Runs, factor: float) -> Sensitivity:
    """The speed of ``experiment`` with each input at the ends of its range, where that is known,
    else ``factor`` times as large and as small, and without a context that it asks for.

    Raises InputError where the experiment itself does not run.
    """
    summed: dict[str, Any] = {"records": "summary", "sweep": None, "figures": []}
    base = played_once(experiment).model_copy(update=summed)
    (summary,) = runs.summaries(base, [({}, base)], AS_IS, told=False)
    timed = is_timed(experiment)
    as_is, swept = speed_of(summary, timed=timed), bool(experiment.sweep)
    if not as_is:
        rmtree(runs.out / AS_IS)  # what is mended may stand in its place
        what = f"does not run as it is: {_why(summary)}" + f"; {LEFT_OUT}" * swept
        raise InputError([Problem(experiment.name, "", what)])
    made = list(_points(base, summary, runs.out, factor))
    told = runs.summaries(base, [(s, one) for _, s, one in made], FOLDER)
    done = [_ran(moved, s, timed=timed) for (moved, _, _), s in zip(made, told, strict=True)]
    titles = dict.fromkeys(one.of for one in done)
    inputs = [Input(t, tuple(one for one in done if one.of == t), as_is) for t in titles]
    if kernels := tuple(_kernels(summary, as_is, timed=timed)):
        inputs.append(Input(KERNELS, kernels, as_is))
    ordered = sorted(inputs, key=lambda one: -one.span)
    notes = (*paced(experiment), *_warnings(experiment, summary), *[f"note: {LEFT_OUT}"] * swept)
    unit = OF_A_REQUEST if timed else TOGETHER
    return Sensitivity(experiment.name, runs.out, as_is, factor, tuple(ordered), notes, unit)


def _warnings(experiment: Experiment, summary: Mapping[str, Any]) -> Iterator[str]:
    """What ``moesim run`` warns of, without which a change of nothing misleads."""
    yield from of_inputs([experiment])
    for lines in (idle_prefetch, empty_slots, borrowed_routing):
        yield from lines(experiment, summary)


def _kernels(summary: Mapping[str, Any], as_is: float, *, timed: bool) -> Iterator[Moved]:
    """The speed at both ends of what kernels that fits price may be off by together, by the run's
    interval: no run, as nothing in a profile moves all of them alike. ``timed``: of what a request
    gets, for whom no GPU is idle.
    """
    factors = busy_rows(_factors(summary)) if timed else _factors(summary)
    rows = [row for row in factors if row["rests_on"] and "within" not in row]
    if not any(row["low"] is not None for row in rows):
        return
    share = sum(row["share"] for row in rows)
    for times in time_limits(rows)[::-1]:
        words = _times(1 / (1 + (times - 1) / share))
        yield Moved(KERNELS, words, guess=True, throughput=as_is / times, ranged=True)


def _ran(moved: Moved, summary: Mapping[str, Any], *, timed: bool) -> Moved:
    """``moved`` as its run ended."""
    if speed := speed_of(summary, timed=timed):
        return replace(moved, throughput=speed)
    return replace(moved, words=f"{moved.words} (does not run)", why=_why(summary))


def _why(summary: Mapping[str, Any]) -> str:
    """Why its run has no speed."""
    return str(summary.get("reason") or summary["status"].replace("_", " "))


Point = tuple[Moved, dict[str, Any], Experiment]


def _points(
    base: Experiment, summary: Mapping[str, Any], out: Path, factor: float
) -> Iterator[Point]:
    """Each run, what it sets, its experiment."""
    out = out / "profiles"
    out.mkdir(parents=True, exist_ok=True)
    yield from _machines(base, out, factor, summary)
    yield from _software(base, out, factor, summary)
    for by in (1 / factor, factor):
        yield from _settings(base, summary, by)
    for one in variations(base, summary, {}, out):
        of, guess = one.varied.of, one.varied.of in GUESSED
        moved = Moved((GUESSED if guess else ASKED)[of], one.varied.words, guess, ranged=guess)
        yield moved, dict(one.settings), one.experiment


def _machines(
    base: Experiment, out: Path, factor: float, summary: Mapping[str, Any]
) -> Iterator[Point]:
    hardware = load_hardware(base.hardware, base.folders)
    alone = base.parallelism.expert == base.parallelism.pipeline == 1
    for key, number in MACHINE.items():
        if (key == "drive" and "storage_path" not in summary) or (key == PEERS and alone):
            continue
        guess, times = _is_guess(key, hardware, summary), _range_of(key, hardware, summary)
        ranged = times is not None
        faster = times and (1 / times[1], 1 / times[0])
        for by in _ends(faster, factor):
            name = f"{key}_x{by:.3g}"
            made = Upgrade(name, name, partial(_scaled, number.change, by))
            update = {"hardware": write_upgrade(out, base, hardware, made)}
            moved = Moved(number.title, _times(by), guess or ranged, ranged=ranged)
            yield moved, update, base.model_copy(update=update)


def _ends(found: Ends | None, factor: float) -> list[float]:
    """By how many times a number is scaled: as far as its range goes, where one is ``found``, else
    by ``factor``; not to what it is.
    """
    return [one for one in found or (1 / factor, factor) if abs(one - 1) > SAME]


def _range_of(key: str, hardware: HardwareProfile, summary: Mapping[str, Any]) -> Ends | None:
    """Between which multiples of their time the run's prices by the number ``key`` lie, where its
    interval says so. That of a host's prior is an input of its own, as are page faults.
    """
    if key == "gpu_bandwidth":
        return _range(summary, DATASHEET_OF) if _is_guess(key, hardware, summary) else None
    if key == "dram":
        return None if share_is_prior(hardware) else _range(summary, ON_CPU)
    return _range(summary, LINK_OF) if key == "link" else None


def _is_guess(key: str, hardware: HardwareProfile, summary: Mapping[str, Any]) -> bool:
    """Whether nobody measured the number ``key`` of this machine, as far as it prices the run: of a
    GPU whose kernels' fits price more of it than its datasheet somebody did, and of what fits of
    collectives price.
    """
    shares = [(row["of"], row["rests_on"], row["share"]) for row in _factors(summary)]
    by_sheet = sum(share for of, _, share in shares if of.startswith(DATASHEET_OF))
    if key == PEERS and any(fits and of.startswith(PEERS_OF) for of, fits, _ in shares):
        return False
    if key == "gpu_bandwidth" and by_sheet < sum(share for _, fits, share in shares if fits):
        return False
    parts = MACHINE[key].parts(hardware)
    texts = (hardware.sources.get(part.source, "") for part in parts if part)
    return any(text.startswith(PRIOR) for text in texts)


def _range(summary: Mapping[str, Any], start: str) -> Ends | None:
    """The range of prices whose name begins with ``start``, in the run's interval."""
    known = (one for one in _factors(summary) if one["low"] is not None)
    found = ((one["low"], one["high"]) for one in known if one["of"].startswith(start))
    return next(found, None)


def _factors(summary: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return (summary.get("price_interval") or {}).get("factors") or ()


def _scaled(change: Change, by: float, hardware: HardwareProfile) -> HardwareProfile:
    return change(hardware, by)


def _software(
    base: Experiment, out: Path, factor: float, summary: Mapping[str, Any]
) -> Iterator[Point]:
    """The software's own times, all by the same, where it has any."""
    known = load_software(base.software, base.folders)
    every = {key.removesuffix("_ns"): getattr(known, key) for key in OWN_TIMES}
    times = {key: ns for key, ns in every.items() if ns}
    found = _range(summary, SOFTWARE_OF)
    for by in _ends(found, factor) if times else ():
        update = {"software": _slower(base, out, times, by)}
        moved = Moved(SOFTWARE, _times(by), found is not None, ranged=found is not None)
        yield moved, update, base.model_copy(update=update)


def _slower(base: Experiment, out: Path, times: Mapping[str, float], by: float) -> str:
    """The path of the software's profile with its own ``times`` so many times as long."""
    title = f"{load_software(base.software, base.folders).title}, its own times x {by:.3g}"
    path = out / f"software_x{by:.3g}.yaml"
    content: dict[str, Any] = {
        "title": title,
        "base": base.software,
        "sources": {"scaled": title},
    }
    content |= {key: {"value": f"{ns * by:g} ns", "source": "scaled"} for key, ns in times.items()}
    write_whole(path, with_end_mark(yaml.safe_dump(content, sort_keys=False, width=120)))
    return str(path)


def _settings(base: Experiment, summary: Mapping[str, Any], by: float) -> Iterator[Point]:
    """Keys of the experiment: slots, requests at once, tokens of context, requests a second."""
    for (title, unit), key, now, write in _keys(base, summary):
        value = round(now * by)
        value += (value == now) * (1 if by > 1 else -1)
        if value > 0:
            settings = {key: write(value)}
            try:
                yield Moved(title, counted(value, unit)), settings, with_settings(base, settings)
            except InputError:  # a number that does not go with the others
                continue
    if is_timed(base) and (rate := getattr(base.workload.arrivals, "request_rate", None)):
        told = f"{rate * by:g} requests/s"
        settings = {"workload.arrivals.request_rate": told}
        yield Moved("requests that come", told), settings, with_settings(base, settings)


def _keys(
    base: Experiment, summary: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, str], str, int, Callable[[int], str]]]:
    """Title and unit, path, value of now, and how another one is written."""
    slots, misses = summary.get("slots_per_layer"), summary.get("misses")
    local = summary.get("local_experts") or 0
    if slots and misses and slots < local:  # else layers with slots have all experts
        title = "expert slots a layer", "slot"
        yield title, "experts.capacity", int(slots), "{} slots/layer".format
    batching = base.workload.batching
    if not batching.serves:
        title = "requests at once", "request"
        yield title, "workload.batching.batch_size", batching.in_flight, str
    elif clients := base.workload.arrivals.concurrency:
        yield ("clients", "client"), "workload.arrivals.max_concurrency", clients, str
    context = base.workload.context
    if isinstance(context, int):
        yield ("tokens of context", "token"), "workload.context", context, str


def _times(by: float) -> str:
    return f"x {by:.3g}"


def in_words(found: Sensitivity) -> Sequence[str]:
    """What moves the speed most, and what to measure first; why a value does not run, and why more
    cores are slower.
    """
    runs = [one for each in found.inputs for one in each.runs]
    lines = [*found.notes, *(f"{one.of}: {one.words}: {one.why}." for one in runs if one.why)]
    cores = [one.throughput for one in runs if one.of == MACHINE["cores"].title]
    if cores and (cores[-1] or found.as_is) < found.as_is:
        lines.append(SLOWER_CORES)
    if found.inputs:
        lines.append(f"Moves it most: {_moves(found, found.inputs[0], ', ')}.")
    guess = found.measure_first
    if guess is None:
        return [*lines, "Measure first: nothing here is a guess that moves the speed."]
    what = MEASURED_BY[guess.title]
    return [*lines, f"Measure first: {what} ({_moves(found, guess, ': ')})."]


def _moves(found: Sensitivity, one: Input, mark: str) -> str:
    """How far an input moves the speed, and how far it was moved."""
    low, high = (100 * (end / found.as_is - 1) for end in one.ends)
    words = one.runs[0].words, one.runs[-1].words
    scaled = f" {' to '.join(words)}, no range being known" if one.guess else ""
    told = " by its range" if one.ranged else scaled
    return f"{one.title}{told}{mark}{low:+z.1f} to {high:+z.1f} %"
