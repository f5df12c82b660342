"""What a layer needs, step by step, and the activations that it takes for it: plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ActiveExperts:
    """What a layer needs on one GPU: step s needs ``experts[offsets[s]:offsets[s + 1]]``,
    ascending.
    """

    offsets: Ints
    experts: Ints

    def between(self, first: int, last: int) -> ActiveExperts:
        """The active experts of steps first:last."""
        low, high = self.offsets[first], self.offsets[last]
        return ActiveExperts(self.offsets[first : last + 1] - low, self.experts[low:high])


@dataclass(frozen=True, eq=False)
class Activations:
    """The activations of a layer on one GPU, in execution order, aligned with
    ``ActiveExperts.experts`` by step.

    ``expert`` int64; ``hit`` bool; ``wave`` int64 within the step; ``wait`` int64: the wave of the
    victim for which a copy waits, else -1; ``victim`` int64, -1 where none, numbered as in its
    pool; ``form`` int64: how the expert is served, a number in the table of the run's miss handling
    (IN_SLOT for a hit). An activation without a kernel has wave -1.
    """

    expert: Ints
    hit: NDArray[np.bool_]
    wave: Ints
    wait: Ints
    victim: Ints
    form: Ints

    @classmethod
    def joined(cls, parts: Sequence[Activations]) -> Activations:
        """The activations of steps that follow one another."""
        if len(parts) == 1:
            return parts[0]
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
