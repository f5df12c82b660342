"""What a scheduler says of its tokens, where the trace's rows do not say it."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moesim.trace.routing import Phase

Ints = NDArray[np.int64]


class PassPhase(IntEnum):
    """The kind of a forward pass: that of all its tokens, or mixed: some decode, some are of
    prompts.
    """

    PREFILL = Phase.PREFILL
    DECODE = Phase.DECODE
    ENCODE = Phase.ENCODE
    MIXED = 3


class Served(NamedTuple):
    """Tokens of requests that are served with the trace's rows, which may come again, on other
    places.

    ``position`` int64[n] of each in its request: as many tokens are cached before it. ``decodes``
    bool[n]: whether it is the token that its request decodes, or a draft behind it, else it is of a
    prompt, or of what is computed again. ``outputs`` bool[n]: whether it has logits, since its
    request's next token follows from them (of a draft, if it is right).
    """

    position: Ints
    decodes: NDArray[np.bool_]
    outputs: NDArray[np.bool_]

    def at(self, tokens: slice) -> Served:
        """Those of ``tokens``."""
        return Served(self.position[tokens], self.decodes[tokens], self.outputs[tokens])

    def phases(self) -> NDArray[np.uint8]:
        """Of each token uint8[n]."""
        return np.where(self.decodes, np.uint8(Phase.DECODE), np.uint8(Phase.PREFILL))


def phases_of_passes(decodes: NDArray[np.bool_], offsets: Ints) -> NDArray[np.uint8]:
    """Of each pass uint8[passes], from which of its tokens ``decodes``."""
    begins = offsets[:-1]
    every, some = (of.reduceat(decodes, begins) for of in (np.logical_and, np.logical_or))
    mixed = np.where(some, PassPhase.MIXED, PassPhase.PREFILL)
    return np.where(every, PassPhase.DECODE, mixed).astype(np.uint8)
