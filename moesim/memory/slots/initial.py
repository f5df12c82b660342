"""What slots hold at the start."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moesim.memory.activations import Ints

Initial = Literal["empty", "most_used", "lowest_ids", "random"]


def in_order(
    initial: Initial, usage: Ints, layers: int, stream: np.random.Generator | None
) -> Ints:
    """The experts of ``layers``, one layer's behind another's, in the order in which slots are
    filled at the start: by ``usage`` int64[experts], by their number in their layer (lower layers
    first), or as ``stream`` draws them, which is there then. Equal ones by number.
    """
    if initial == "random":
        assert stream is not None, "they are drawn"
        return stream.permutation(len(usage))
    if initial == "lowest_ids":
        return np.argsort(np.arange(len(usage)) % (len(usage) // layers), kind="stable")
    return np.argsort(-usage, kind="stable")
