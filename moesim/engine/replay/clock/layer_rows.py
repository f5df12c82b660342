"""What the clock recorded of layers, as the rows of a table."""

from __future__ import annotations

from typing import Any

from moesim.engine.replay.clock.records import FOUR, MASK, TABLE
from moesim.runtime.compiled import njit, types


@njit(types.void(FOUR, MASK, types.int64, TABLE), cache=True)
def fill_rows(records: Any, runs: Any, first: int, rows: Any) -> None:
    """Fill in ``rows`` int64[n, 7], one for each (pass, MoE layer, GPU) that ``runs`` bool[passes,
    MoE layers], in order: these three, passes from ``first`` on, and their ``records``
    int64[passes, MoE layers, gpus, 4].
    """
    passes, layers, gpus, _ = records.shape
    n = 0
    for p in range(passes):
        for layer in range(layers):
            for gpu in range(gpus if runs[p, layer] else 0):
                rows[n, 0], rows[n, 1], rows[n, 2] = first + p, layer, gpu
                for place in range(4):
                    rows[n, 3 + place] = records[p, layer, gpu, place]
                n += 1
