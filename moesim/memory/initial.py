"""What slots hold at the start."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.memory.activations import Ints

Initial = Literal["empty", "most_used", "lowest_ids", "random"]


def in_order(initial: Initial, usage: Ints, layers: int, stream: np.random.Generator) -> Ints:
    """The experts of ``layers``, one layer's behind another's, in the order in which slots are
    filled at the start: by ``usage`` int64[experts], by their number in their layer (lower layers
    first), or as ``stream`` draws them. Equal ones by number.
    """
    if initial == "random":
        return stream.permutation(len(usage))
    if initial == "lowest_ids":
        return np.argsort(np.arange(len(usage)) % (len(usage) // layers), kind="stable")
    return np.argsort(-usage, kind="stable")
