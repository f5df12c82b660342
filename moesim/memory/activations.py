"""What a layer needs, step by step, and the activations that it takes for it: plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@lru_cache
def offsets_of(number: int) -> Ints:
    """The offsets int64[2] of a single step that needs so many experts: not to be written to."""
    return np.array((0, number))


def steps_of(offsets: Ints) -> Ints:
    """The step of each of what follows one another from ``offsets`` int64[steps + 1] on."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


@dataclass(frozen=True, eq=False)
class ActiveExperts:
    """What a layer needs on one GPU: step s needs ``experts[offsets[s]:offsets[s + 1]]``,
    ascending.
    """

    offsets: Ints
    experts: Ints

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> ActiveExperts:
        """Those of ``mask`` bool[steps, experts]."""
        steps, experts = mask.shape
        places = np.flatnonzero(mask)
        return cls(np.searchsorted(places, np.arange(steps + 1) * experts), places % experts)

    def between(self, first: int, last: int) -> ActiveExperts:
        """The active experts of steps first:last."""
        if last - first == len(self.offsets) - 1:
            return self
        low, high = self.offsets[first], self.offsets[last]
        return ActiveExperts(self.offsets[first : last + 1] - low, self.experts[low:high])

    def then(self, after: ActiveExperts) -> ActiveExperts:
        """These steps, and those of ``after`` behind them."""
        offsets = np.concatenate((self.offsets, self.offsets[-1] + after.offsets[1:]))
        return ActiveExperts(offsets, np.concatenate((self.experts, after.experts)))


class Activations(NamedTuple):
    """The activations of a layer on one GPU, in execution order, aligned with
    ``ActiveExperts.experts`` by step.

    ``expert`` int64; ``hit`` bool; ``launch`` int64 within the step; ``wait`` int64: the launch of
    the victim for which a copy waits, else -1; ``victim`` int64, -1 where none, numbered as in its
    pool; ``form`` int64: how the expert is served, a number in the table of the run's miss handling
    (IN_SLOT for a hit). An activation without a kernel has launch -1.
    """

    expert: Any
    hit: Any
    launch: Any
    wait: Any
    victim: Any
    form: Any

    @classmethod
    def empty(cls, number: int) -> Activations:
        """Room for ``number`` activations, all of them in a slot."""
        expert, launch, wait, victim, form = np.empty((5, number), np.int64)
        form[:] = 0
        return cls(expert, np.empty(number, np.bool_), launch, wait, victim, form)

    @classmethod
    def joined(cls, parts: Sequence[Activations]) -> Activations:
        """The activations of steps that follow one another."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate(of_parts) for of_parts in zip(*parts, strict=True)))
