"""What software captures of passes that differ: by their kind and size (docs/semantics.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moesim.hardware.described.software import Execution
from moesim.trace.routing import Phase
from moesim.workload.schedule import Schedule

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Captured:
    """Passes of up to ``most_tokens`` a GPU are captured: those that decode alone as ``decode``
    says, ``others`` otherwise; larger ones are eager, and so is what is captured as that.
    """

    decode: Execution
    others: Execution
    most_tokens: int = 512

    @cached_property
    def sizes(self) -> Ints:
        """Tokens of the passes that are captured, ascending: 1, 2, 4, eights to 256, then sixteens
        (vLLM 0.14.0 config/vllm.py).
        """
        found = np.concatenate(([1, 2, 4], np.arange(8, 256, 8), np.arange(256, 1 << 14, 16)))
        return np.append(found[found < self.most_tokens], self.most_tokens)

    def executions(self, phase: NDArray[np.uint8], fullest: Ints) -> list[Execution]:
        """Of each pass, of ``phase`` uint8[passes], whose ``fullest`` group of GPUs has so many
        tokens int64[passes].
        """
        found = np.where(phase == Phase.DECODE, self.decode, self.others)
        launched: list[Execution] = np.where(fullest <= self.most_tokens, found, "eager").tolist()
        return launched

    def padding(self, schedule: Schedule, tokens: Ints, group: int) -> Ints:
        """What makes ``tokens`` int64[passes, gpus], which each GPU's group has, those of the next
        captured size that holds the pass's fullest group, if it is captured: int64[passes, gpus].
        """
        fullest, sizes = tokens.max(axis=1), self.sizes
        groups = fullest_groups(schedule, tokens.shape[1], group)
        decodes = schedule.phase == Phase.DECODE
        captured = np.where(decodes, self.decode != "eager", self.others != "eager")
        captured &= groups <= self.most_tokens
        padded = sizes[np.minimum(np.searchsorted(sizes, fullest), len(sizes) - 1)]
        return np.where(captured[:, None], padded[:, None] - tokens, 0)


def fullest_groups(schedule: Schedule, gpus: int, group: int) -> Ints:
    """The tokens int64[passes] that the fullest group of GPUs has."""
    groups = gpus // group
    if groups == 1:
        return np.diff(schedule.offsets)
    place = schedule.pass_of_token() * groups + schedule.gpu // group
    counts = np.bincount(place, minlength=schedule.passes * groups)
    fullest: Ints = counts.reshape(schedule.passes, groups).max(axis=1)
    return fullest
