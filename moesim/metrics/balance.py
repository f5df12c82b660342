"""How evenly GPUs share the work of every forward pass and MoE layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.engine.counts import Loads

Ints = NDArray[np.int64]


def balance(loads: Loads) -> dict[str, float | None]:
    """Numbers of ``loads``, None where there are none.

    ``max_load``: the largest share that a GPU has of a pass and layer; ``average_max_load``: the
    mean over passes and layers of the largest (arXiv 2303.06182); ``balancedness``: the mean over
    GPUs, summed over passes and layers, over the same sum of the largest.
    """
    used = loads.total > 0
    if not used.any():
        return {"max_load": None, "average_max_load": None, "balancedness": None}
    shares = loads.largest[used] / loads.total[used]
    return {
        "max_load": float(shares.max()),
        "average_max_load": float(shares.mean()),
        "balancedness": float((loads.total / loads.gpus).sum()) / float(loads.largest.sum()),
    }


def rows_of_gpus(rows: Ints, gpu_of_expert: Ints, gpus: int) -> Ints:
    """Rows int64[..., gpus] from those of the physical experts, int64[..., physical]."""
    starts = np.searchsorted(gpu_of_expert, np.arange(gpus))
    summed: Ints = np.add.reduceat(rows, starts, axis=-1)
    return summed
