"""Three tokens by hand: two in pass 0, on GPU 0 and 1, and one in pass 1, on GPU 0. Of four
experts, GPU 0 has 0 and 1, GPU 1 has 2 and 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.trace.routing import NO_EXPERT

GPUS, PASSES = 2, 2
ROWS, SENDERS = np.array([0, 1, 2]), np.array([0, 1, 0])
OFFSETS = np.array([5, 7, 8])
"""Of a chunk that begins at token 5."""
GPU_OF_EXPERT = np.array([0, 0, 1, 1])
CHOICES = [[0, 2, NO_EXPERT], [2, 3, NO_EXPERT], [3, 2, NO_EXPERT]]


def ids(*layers: list[list[int]]) -> Any:
    """uint16[3, layers, 3], as a trace has them."""
    made = np.ascontiguousarray(np.stack(layers, axis=1), np.uint16)
    made.flags.writeable = False
    return made


def running(layers: int = 1) -> Any:
    """All passes run all layers."""
    return np.ones((PASSES, layers), np.bool_)
