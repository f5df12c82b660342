"""How evenly GPUs share the work of every forward pass and MoE layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def balance(rows: Ints) -> dict[str, float | None]:
    """Of ``rows`` int64[passes, MoE layers, gpus], None where there are none.

    ``max_load``: the largest share that a GPU has of a pass and layer; ``average_max_load``: the
    mean over passes and layers of the largest (arXiv 2303.06182); ``balancedness``: the mean over
    GPUs, summed over passes and layers, over the same sum of the largest.
    """
    total, largest = rows.sum(axis=2), rows.max(axis=2)
    used = total > 0
    if not used.any():
        return {"max_load": None, "average_max_load": None, "balancedness": None}
    shares = largest[used] / total[used]
    return {
        "max_load": float(shares.max()),
        "average_max_load": float(shares.mean()),
        "balancedness": float(rows.mean(axis=2).sum()) / float(largest.sum()),
    }


def rows_of_gpus(rows: Ints, gpu_of_expert: Ints, gpus: int) -> Ints:
    """Rows int64[..., gpus] from those of the physical experts, int64[..., physical]."""
    starts = np.searchsorted(gpu_of_expert, np.arange(gpus))
    summed: Ints = np.add.reduceat(rows, starts, axis=-1)
    return summed
