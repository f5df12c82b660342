"""What is decided of a pool of slots: in which runs of passes, and with what beside the experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Ints
from moesim.engine.routing import Key
from moesim.memory.activations import Activations, ActiveExperts
from moesim.memory.slots.by_bytes import Victims
from moesim.workload.schedule import Schedule


class Coming(NamedTuple):
    """The ``active_experts`` of every MoE layer and GPU in passes first:last, the next ones;
    ``prices`` gives int64[OFFERED, active experts] where misses compare them.
    """

    active_experts: dict[Key, ActiveExperts]
    first: int
    last: int
    prices: Callable[[Key], Ints]


class Run(NamedTuple):
    """Passes first:last that are decided at once: their way, as of ``Case.ways``, and whether the
    policy ``restarts`` before them.
    """

    first: int
    last: int
    way: int
    restarts: bool


def behind(first: Activations, second: Activations) -> Activations:
    """The activations of one step, in launches of their own those of the ``second`` part."""
    before = int(first.launch.max(initial=-1)) + 1
    moved = (np.where(one >= 0, one + before, one) for one in (second.launch, second.wait))
    launch, wait = moved
    return Activations.joined([first, second._replace(launch=launch, wait=wait)])


def evicted(pool: ActiveExperts, made: Activations, victims: Victims) -> Ints:
    """How many experts the activations ``made`` evict in each step of ``pool``."""
    so_far: Ints = victims.offsets
    if not len(so_far):
        so_far = np.concatenate(([0], np.cumsum(made.victim >= 0)))
    return np.diff(so_far[pool.offsets])


def runs_of(
    ways: NDArray[np.int8], starts: NDArray[np.bool_], resized: NDArray[np.bool_]
) -> Iterator[Run]:
    """Runs of equal ``ways``, cut where the policy ``starts`` anew or slots are ``resized``."""
    cut = (np.diff(ways, prepend=-1) != 0) | starts | resized
    for first, last in pairwise([*np.flatnonzero(cut).tolist(), len(ways)]):
        yield Run(first, last, int(ways[first]), bool(starts[first]))


def request_starts(schedule: Schedule, first: int, last: int) -> NDArray[np.bool_]:
    """Which of passes first:last have none of the requests of the pass before."""
    before = max(first - 1, 0)
    span = slice(schedule.offsets[before], schedule.offsets[last])
    step = np.repeat(np.arange(before, last), np.diff(schedule.offsets[before : last + 1]))
    pairs = np.unique(np.stack((schedule.request[span], step)), axis=1)
    goes_on = (np.diff(pairs[0]) == 0) & (np.diff(pairs[1]) == 1)
    starts = np.ones(last, np.bool_)
    starts[pairs[1][1:][goes_on]] = False
    return starts[first:]


def joined(parts: list[ActiveExperts]) -> ActiveExperts:
    """The active experts of all ``parts``, one behind the other."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    experts = np.concatenate([part.experts for part in parts])
    return ActiveExperts(np.concatenate(([0], np.cumsum(lengths))), experts)
