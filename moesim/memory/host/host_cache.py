"""Host memory as a cache of the experts that storage holds: what it is, and what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from moesim.memory.activations import Ints
from moesim.memory.policy import CachePolicy


@dataclass(frozen=True)
class HostCache:
    """The ``slots`` of a node's host for experts of all layers, and how what is missing is read:
    each expert in so many ``requests``, by page faults (``mapped``) or directly; a copy may follow
    the read in chunks of ``chunk`` bytes, else it waits for the whole. Without slots nothing is
    kept in host memory; ``in_place``, then: experts are read into the slots of the GPU, whose
    memory is the host's, and nothing is copied. ``limit``: of a cache by bytes, what it holds, as
    experts differ; ``slots`` of the largest are then the least that it has room for.
    ``layers_ahead``: slots hold whole layers, which are read in order, so many ahead of the one
    that runs, in place of what is wanted; None: a cache.
    """

    slots: int
    policy: CachePolicy
    requests: int = 1
    mapped: bool = False
    chunk: int | None = None
    in_place: bool = False
    limit: int | None = None
    layers_ahead: int | None = None

    @property
    def rooms(self) -> int:
        """Layers that are in host memory for a time, 0 where it is a cache."""
        return 0 if self.layers_ahead is None else 1 + self.layers_ahead


NONE = np.empty(0, np.int64)


class Reads(NamedTuple):
    """What a MoE layer on a GPU reads from storage: ``steps`` int64[passes + 1] offsets of its
    reads by pass; by pass how many of its needs were ``hits`` of the host. Which read of its pass,
    counted from 0, is the last that a copy waits for (``copy`` int64[copies]), a launch (``launch``
    int64[launches]), and the host's experts (``host`` int64[passes]); -1: none. Where reads differ
    in bytes, by read when it leaves the drive to others, from the first one of its pass on
    (``ends``), and how long ``after`` that its last byte is there; by copy how long before that it
    may begin (``lead``); and by pass the ``bytes`` of its reads. Else nothing.
    """

    steps: Any
    hits: Any
    copy: Any
    launch: Any
    host: Any
    ends: Any = NONE
    after: Any = NONE
    lead: Any = NONE
    bytes: Any = NONE

    def timed(self, busy: Ints, after: Ints, lead: Ints) -> Reads:
        """With their times int64[1], where all are alike: each keeps the drive ``busy``."""
        place = np.arange(self.steps[-1]) - np.repeat(self.steps[:-1], np.diff(self.steps))
        afters, leads = np.full(len(place), after), np.full(len(self.copy), lead)
        return self._replace(ends=(place + 1) * busy, after=afters, lead=leads)
