"""Which full blocks of different requests hold the same tokens."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from moesim.workload.arrivals.base import Prefixes
from moesim.workload.schedule import Ints
from moesim.workload.serving.state import Asked


def contents_of(asked: Asked, prefixes: Prefixes, block_size: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Blocks that lie under ids of several requests, as request and number, and the request and
    number of the first one with the same tokens and the same before them.
    """
    nodes = _nodes(prefixes)
    users = Counter(node for path in nodes for node in path)
    first: dict[tuple[int, int], tuple[int, int]] = {}
    found: list[tuple[int, int, int, int]] = []
    for request, path in enumerate(nodes):
        size = int(prefixes.block_tokens[request])
        for block in range(_covered(asked, request, len(path), size) // block_size):
            node = path[((block + 1) * block_size - 1) // size]
            if users[node] == 1:
                break  # nobody else has it, nor what is behind it
            found.append((request, block, *first.setdefault((node, block), (request, block))))
    return _columns(found)


def _nodes(prefixes: Prefixes) -> list[list[int]]:
    """Of each request the numbers of its ids, equal where the ids are, and all before them."""
    known: dict[tuple[int, int], int] = {}
    nodes = []
    for low, high in pairwise(prefixes.offsets.tolist()):
        node, path = -1, []
        for one in prefixes.ids[low:high].tolist():
            node = known.setdefault((node, one), len(known))
            path.append(node)
        nodes.append(path)
    return nodes


def session_contents(asked: Asked, block_size: int) -> tuple[Ints, Ints, Ints, Ints]:
    """As ``contents_of``, where the prompt of a request begins with prompt and answer of the one
    that it follows.
    """
    first: dict[tuple[int, int], tuple[int, int]] = {}
    for request in np.flatnonzero(asked.follows >= 0).tolist():
        before = int(asked.follows[request])
        whole = int(asked.input_tokens[before] + asked.output_tokens[before])
        for block in range(min(whole, int(asked.input_tokens[request])) // block_size):
            first[request, block] = first.get((before, block), (before, block))
    return _columns([(*here, *there) for here, there in first.items()])


def _columns(found: list[tuple[int, int, int, int]]) -> tuple[Ints, Ints, Ints, Ints]:
    columns = np.array(found, np.int64).reshape(-1, 4).T
    return columns[0], columns[1], columns[2], columns[3]


def _covered(asked: Asked, request: int, ids: int, size: int) -> int:
    """Tokens under ``ids``: of the prompt, or, where there are more than that has, of the answer
    too.
    """
    inputs, outputs = int(asked.input_tokens[request]), int(asked.output_tokens[request])
    return min(ids * size, inputs if ids <= -(-inputs // size) else inputs + outputs)
