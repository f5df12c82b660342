"""Which full blocks of different requests hold the same tokens."""

from __future__ import annotations

import numpy as np

from moesim.workload.arrivals.base import Prefixes
from moesim.workload.schedule import Ints
from moesim.workload.serving.state import Asked


def contents_of(asked: Asked, prefixes: Prefixes, block_size: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Blocks that lie under ids, as request and number, and the request and number of the first one
    with the same tokens and the same before them.
    """
    known: dict[tuple[int, int], int] = {}
    firsts: dict[tuple[int, int], tuple[int, int]] = {}
    found: list[tuple[int, int, int, int]] = []
    for request in range(asked.count):
        low, high = prefixes.offsets[request : request + 2]
        size, node, nodes = int(prefixes.block_tokens[request]), -1, []
        for one in prefixes.ids[low:high].tolist():
            node = known.setdefault((node, one), len(known))
            nodes.append(node)
        for block in range(_covered(asked, request, len(nodes), size) // block_size):
            last = ((block + 1) * block_size - 1) // size
            here = (request, block)
            found.append((*here, *firsts.setdefault((nodes[last], block), here)))
    columns = np.array(found, np.int64).reshape(-1, 4).T
    return columns[0], columns[1], columns[2], columns[3]


def _covered(asked: Asked, request: int, ids: int, size: int) -> int:
    """Tokens under ``ids``: of the prompt, or, where there are more than that has, of the answer
    too.
    """
    inputs, outputs = int(asked.input_tokens[request]), int(asked.output_tokens[request])
    return min(ids * size, inputs if ids <= -(-inputs // size) else inputs + outputs)
