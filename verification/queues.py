"""The engine's own classes against queueing theory: first in first out, and shared links."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import numpy as np
import simpy
from numpy.typing import NDArray

from moesim.engine.des.copies import CopyGroup, CopyIn
from moesim.engine.des.links import FairLinks
from verification.check import Measured, check, half_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOADS = (0.3, 0.6, 0.8)
SERVICE_NS = 100_000
REPLICATIONS, WARM_UP = 24, 1_000
QUEUED_JOBS, SHARED_JOBS = 30_000, 6_000
WHY = "the 99.9 % interval over 24 independent runs covers the formula"

Floats = NDArray[np.float64]
Submit = Callable[[simpy.Environment, int], simpy.Event]


def times(sizes: Floats, load: float, rng: np.random.Generator, server: Submit) -> Floats:
    """Time in the system (ns) of jobs of ``sizes`` (ns of service) that arrive at random.

    Poisson arrivals at ``load`` over the mean service; the warm-up is left out.
    """
    env = simpy.Environment()
    gaps = rng.exponential(SERVICE_NS / load, len(sizes))
    arrivals = np.cumsum(gaps).astype(np.int64).tolist()
    spent = np.zeros(len(sizes))

    def leave(job: int, arrived: int) -> Callable[[simpy.Event], None]:
        return lambda _: spent.__setitem__(job, env.now - arrived)

    def source() -> Generator[simpy.Event, None, None]:
        for job, (arrived, size) in enumerate(zip(arrivals, sizes.tolist(), strict=True)):
            yield env.timeout(arrived - int(env.now))
            done = server(env, max(1, round(size)))
            assert done.callbacks is not None
            done.callbacks.append(leave(job, arrived))

    env.process(source())
    env.run()
    return spent[WARM_UP:]


def one_server() -> Submit:
    """The copy-in engine: first in, first out."""
    engines: dict[simpy.Environment, CopyIn] = {}

    def submit(env: simpy.Environment, size: int) -> simpy.Event:
        copy_in = engines.setdefault(env, CopyIn(env, 0, blocking=False))
        copy = CopyGroup(env, 1, size, size, int(env.now), 0)
        copy_in.submit(copy)
        return copy

    return submit


def one_link() -> Submit:
    """A link of one byte a nanosecond that all transfers share."""
    links: dict[simpy.Environment, FairLinks] = {}

    def submit(env: simpy.Environment, size: int) -> simpy.Event:
        fair = links.setdefault(env, FairLinks(env, {"link": 1_000_000_000}))
        return fair.transfer(size, ["link"])

    return submit


def exponential(rng: np.random.Generator, jobs: int) -> Floats:
    """Sizes without memory."""
    return rng.exponential(SERVICE_NS, jobs)


def constant(rng: np.random.Generator, jobs: int) -> Floats:
    """Sizes all alike."""
    del rng
    return np.full(jobs, float(SERVICE_NS))


def two_kinds(rng: np.random.Generator, jobs: int) -> Floats:
    """Nine short jobs for each one that is 21 times as long: squared variation 4."""
    short = SERVICE_NS / 3
    return np.where(rng.random(jobs) < 0.9, short, 7 * SERVICE_NS)


def compare(
    server: Callable[[], Submit],
    sizes: Callable[[np.random.Generator, int], Floats],
    jobs: int,
    theory: Callable[[float], float],
) -> Measured:
    """The worst of ``LOADS``: how far the mean time is from ``theory(load)`` (ns)."""
    rows = []
    for load in LOADS:
        runs = []
        for run in range(REPLICATIONS):
            rng = np.random.default_rng([run, int(100 * load)])
            runs.append(float(times(sizes(rng, jobs), load, rng, server()).mean()))
        mean = float(np.mean(runs))
        far = half_widths(runs, theory(load))
        rows.append((far, load, mean, abs(mean / theory(load) - 1)))
    worst = max(rows)

    def draw(axes: Axes) -> None:
        grid = np.linspace(0, 0.85, 80)
        axes.plot(grid, [theory(load) / 1e3 for load in grid], "-", label="theory")
        axes.plot([row[1] for row in rows], [row[2] / 1e3 for row in rows], "o", label="moesim")
        axes.set_xlabel("load (1)")
        axes.set_ylabel("mean time in the system (us)")
        axes.set_ylim(bottom=0)
        axes.legend()

    text = (
        f"farthest at load {worst[1]}: {worst[2]:.0f} ns, formula {theory(worst[1]):.0f} ns"
        f" ({100 * worst[3]:.2f} %; the interval is +-{100 * worst[3] / worst[0]:.2f} %)"
    )
    return Measured(worst[0], text, draw)


@check(
    "M/M/1: the copy engine's mean time is s / (1 - load)",
    tolerance=1,
    why=WHY,
    unit="half-widths",
)
def copy_engine_mm1() -> Measured:
    return compare(one_server, exponential, QUEUED_JOBS, lambda load: SERVICE_NS / (1 - load))


@check(
    "M/D/1: the copy engine's mean time is s + s load / (2 (1 - load))",
    tolerance=1,
    why=f"{WHY} (Pollaczek and Khinchine)",
    unit="half-widths",
)
def copy_engine_md1() -> Measured:
    return compare(
        one_server, constant, QUEUED_JOBS, lambda load: SERVICE_NS * (1 + load / (2 * (1 - load)))
    )


@check(
    "Processor sharing: a shared link's mean time is s / (1 - load), exponential sizes",
    tolerance=1,
    why=WHY,
    unit="half-widths",
)
def shared_link_exponential() -> Measured:
    return compare(one_link, exponential, SHARED_JOBS, lambda load: SERVICE_NS / (1 - load))


@check(
    "Processor sharing does not depend on the sizes' distribution",
    tolerance=1,
    why=f"{WHY}; sizes of squared variation 4 would wait 2.5 times as long in a queue",
    unit="half-widths",
)
def shared_link_insensitive() -> Measured:
    return compare(one_link, two_kinds, SHARED_JOBS, lambda load: SERVICE_NS / (1 - load))


@check(
    "Processor sharing slows short and long transfers alike: time = size / (1 - load)",
    tolerance=1,
    why=WHY,
    unit="half-widths",
)
def shared_link_slows_alike() -> Measured:
    load = 0.6
    short, long = [], []
    for run in range(REPLICATIONS):
        rng = np.random.default_rng([run, 99])
        sizes = two_kinds(rng, SHARED_JOBS)
        slowdown = times(sizes, load, rng, one_link()) / np.round(sizes[WARM_UP:])
        is_short = sizes[WARM_UP:] < SERVICE_NS
        short.append(float(slowdown[is_short].mean()))
        long.append(float(slowdown[~is_short].mean()))
    found = [half_widths(values, 1 / (1 - load)) for values in (short, long)]
    text = f"short {np.mean(short):.4f}, long {np.mean(long):.4f}, formula {1 / (1 - load):.4f}"
    return Measured(max(found), text)


def bottlenecked(fair: FairLinks) -> float:
    """The least, over transfers, of the best proof that it cannot go faster: 0 if all have one.

    A transfer is bottlenecked on a link that is full and where no other is faster (Bertsekas and
    Gallager); the value is what lacks, in bytes a nanosecond.
    """
    lack = 0.0
    for link, capacity in fair.capacity.items():
        used = sum(t.rate for t in fair.transfers if link in t.links)
        lack = max(lack, float(used - capacity))
    for transfer in fair.transfers:
        lacks = []
        for link in transfer.links:
            others = [t.rate for t in fair.transfers if link in t.links]
            lacks.append(max(fair.capacity[link] - sum(others), max(others) - transfer.rate))
        lack = max(lack, float(min(lacks)))
    return lack


@check(
    "Links are shared max-min fairly: every transfer has a full link on which none is faster",
    tolerance=0,
    why="that is the definition of max-min fairness, and rates are exact fractions",
    unit="bytes/ns",
)
def links_are_max_min_fair() -> Measured:
    rng = np.random.default_rng(11)
    worst, count = 0.0, 0
    for _ in range(300):
        env = simpy.Environment()
        names = [f"link {index}" for index in range(rng.integers(1, 7))]
        fair = FairLinks(env, {name: int(rng.integers(1, 64)) * 10**9 for name in names})
        for _ in range(rng.integers(1, 12)):
            crossed = rng.choice(names, rng.integers(1, len(names) + 1), replace=False).tolist()
            fair.transfer(10**9, crossed)
            worst, count = max(worst, bottlenecked(fair)), count + 1
    return Measured(worst, f"{count} allocations on random networks")
