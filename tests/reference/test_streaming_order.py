"""Johnson's order of streamed experts: the clock's time is the formula's, and the least of all."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import permutations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from .agreement import agree
from .prices import ToyPrices
from .reference_words import Config, Layer, Model
from .strategies import Case

LOAD = 100
rows_of_experts = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def prices_of(slope: int) -> ToyPrices:
    return ToyPrices(copy_bytes_a_ns=1, copy_latency=0, expert_start=7, tile=slope)


def computes_of(rows: list[int], slope: int) -> list[int]:
    return [prices_of(slope).experts_ns(Layer(0, moe=True), [number]) for number in rows]


def streamed(rows: list[int], order: str, slope: int) -> int:
    """How long the experts of one layer take whose expert e has ``rows[e]``; a copy takes LOAD."""
    ids = [e for e, number in enumerate(rows) for _ in range(number)]
    trace = {
        "expert_ids": [[[e]] for e in ids],
        "request_id": list(range(len(ids))),
        "position": [0] * len(ids),
        "phase": [1] * len(ids),
    }
    model = Model([Layer(0, moe=True)], len(rows) + 1, 1, 1, 1, LOAD)
    config = Config(
        policy="stream", parameters={"buffers": 2}, slots=1, kernels="serial", order=order,
        batch_size=len(ids),
    )  # fmt: skip
    case = Case(trace, model, config, prices_of(slope))
    there = replace(case, config=replace(config, slots=None, policy="lru", parameters={}))
    beside = agree(there).duration_ns - sum(computes_of(rows, slope))
    return agree(case).duration_ns - beside


def makespan(computes: list[int]) -> int:
    """With two buffers, copy j + 1 begins when kernel j - 1 and copy j have ended."""
    after = zip(computes, [LOAD] * (len(computes) - 1), strict=False)
    return LOAD + sum(max(pair) for pair in after) + computes[-1]


@cache
def orders(experts: int) -> np.ndarray:
    """Every order of so many experts, a row each."""
    return np.array(list(permutations(range(experts))))


@given(rows_of_experts, st.integers(0, 40))
def test_the_order_has_the_least_makespan_of_all(rows: list[int], slope: int) -> None:
    computes = computes_of(rows, slope)
    by_id = streamed(rows, "id", slope)
    assert by_id == makespan(computes)
    ordered = streamed(rows, "least_makespan", slope)
    assert ordered == makespan(sorted(computes, reverse=True))
    every = np.array(computes)[orders(len(computes))].T
    assert ordered == (LOAD + np.maximum(every[:-1], LOAD).sum(0) + every[-1]).min()
    assert ordered <= by_id <= 2 * ordered


def test_nothing_is_gained_where_kernels_dominate_and_the_last_one_where_copies_do() -> None:
    """Kernels of 100 a tile are longer than copies; those of few rows are shorter."""
    long, short = [3, 30, 12, 9], [2, 3, 4, 5]
    assert min(computes_of(long, 100)) > LOAD > max(computes_of(short, 0))
    assert streamed(long, "id", 100) == streamed(long, "least_makespan", 100)
    last, least = (of(computes_of(short, 0)) for of in (max, min))
    assert streamed(short, "id", 0) - streamed(short, "least_makespan", 0) == last - least
