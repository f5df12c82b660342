"""How evenly GPUs share the work of every forward pass and MoE layer."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Loads(NamedTuple):
    """Rows of every pass and MoE layer, int64[passes, MoE layers] each: of all ``gpus`` together,
    and of the one with most.
    """

    total: Ints
    largest: Ints
    gpus: int

    @classmethod
    def of(cls, rows: Ints) -> Loads:
        """Of ``rows`` int64[passes, MoE layers, gpus]."""
        by_gpu = np.moveaxis(rows, 2, 0)  # GPUs are few: sums along them are slow
        return cls(np.einsum("gpl->pl", by_gpu), reduce(np.maximum, by_gpu), len(by_gpu))

    def since(self, first: int) -> Loads:
        """Those of passes ``first`` and later."""
        return Loads(self.total[first:], self.largest[first:], self.gpus)


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
