"""Misses that are divided between copies and the host (docs/semantics.md, "Misses")."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.memory.misses.split import Split
from moesim.memory.slots.split import OFFERED, add_miss, divide
from moesim.runtime.compiled import njit

from .agreement import agree
from .prices import ToyPrices
from .reference_words import Config, Layer, Model, Verdict
from .scenes import scene
from .strategies import Case
from .test_reference_timeline import decode

FREE = np.empty(0, np.int64)
"""Nothing says how many are loaded."""


@njit()
def divide_all(prices: Any, moved: Any, planned: Any) -> None:
    """Divide all of a step, where all miss."""
    places, number = np.empty(len(planned), np.int64), 0
    for place in range(len(planned)):
        number = add_miss(places, number, place, prices)
    divide(places, number, prices, moved, FREE, planned)


FOUR = [[0, 1, 2, 3]]


def of_four(prices: ToyPrices | None = None, **choices: Any) -> Verdict:
    """Four misses of one row each."""
    trace, model = scene(FOUR, 5)
    config = Config(slots=4, miss="split", **choices)
    return agree(Case(trace, model, config, prices or ToyPrices()))


def placed(verdict: Verdict) -> list[str]:
    return [activation.place for activation in verdict.activations]


def test_copies_and_host_end_together() -> None:
    """A copy is 17 + 34; m experts of the host are 53 m + (17 + m), and then (17 + m / 3, up).

    By copies 0 to 4: 252, 197, max(102, 125) + 18, max(153, 71) + 18, 204: two are copied.
    """
    verdict = of_four()
    assert placed(verdict) == ["load", "load", "host", "host"]
    # the launch [0, 1] begins after 102; the host waits for nothing, and ends after 143
    (kernel,) = (span for span in verdict.spans if span.engine == "compute")
    (host,) = (span for span in verdict.spans if span.engine == "host")
    known = host.start_ns
    assert (kernel.start_ns - known, host.end_ns - known) == (102, 143)


def test_rows_come_up_behind_copies() -> None:
    """Three copies end after 153, the host after 71 with its rows of 18."""
    verdict = of_four(rule="bandwidth", bandwidths=(3, 1))
    (kernel,) = (span for span in verdict.spans if span.engine == "compute")
    (host,) = (span for span in verdict.spans if span.engine == "host")
    known = host.start_ns
    assert (kernel.start_ns - known, host.end_ns - known) == (153, 153 + 18)


@pytest.mark.parametrize(
    ("bandwidths", "alpha", "copied"),
    [((1, 3), 1.0, 1), ((1, 1), 1.0, 2), ((3, 1), 1.0, 3), ((1, 1), 0.0, 1), ((1, 1), 1.7, 4)],
)
def test_the_links_share_of_both_bandwidths(
    bandwidths: tuple[int, int], alpha: float, copied: int
) -> None:
    """4 x 1/4 = 1; 4 x 1/2 = 2; 4 x 3/4 = 3; 0, so 1; 3.4, so 4."""
    verdict = of_four(rule="bandwidth", alpha=alpha, bandwidths=bandwidths)
    assert placed(verdict).count("load") == copied
    assert verdict.bytes_h2d == 100 * copied


def test_a_share_is_rounded_up_and_as_it_is_written() -> None:
    """.1 x 10 x 1 is 1, not 2; 3 x 1/3 is 1; 2 x 1/3 is rounded up to 1, 4 x 1/3 to 2."""
    assert Split(rule="bandwidth", alpha=0.1).loads_of(10, (1, 0))[10] == 1
    assert Split(rule="bandwidth").loads_of(4, (1, 2)) == (0, 1, 1, 1, 2)
    assert Split().loads_of(4, (1, 2)) == ()


def test_those_with_most_rows_are_copied() -> None:
    """Rows are 1, 2, 1, 2: experts 1 and 3 come to the GPU, of 0 and 2 the lower id is third."""
    trace = decode([[[0, 1]], [[1, 3]], [[2, 3]]], first=[10, 20, 30])
    model = Model([Layer(0, moe=True)], 5, 2, 10, 2, 100)
    config = Config(batch_size=3, slots=4, miss="split", rule="bandwidth")
    for alpha, hosted in ((1.0, [0, 2]), (1.5, [2])):
        verdict = agree(Case(trace, model, replace(config, alpha=alpha), ToyPrices()))
        found = [one.expert for one in verdict.activations if one.place == "host"]
        assert found == hosted


def test_what_loses_its_slot_to_a_copy_is_loaded() -> None:
    """One slot, expert 3 in it, needed last: the copy of 0 evicts it (c), which nobody planned."""
    trace, model = scene([[3], [0, 3]], 5)
    config = Config(slots=1, miss="split", rule="bandwidth")
    verdict = agree(Case(trace, model, config, ToyPrices()))
    later = [(one.expert, one.place, one.rule) for one in verdict.activations if one.step == 1]
    assert later == [(0, "load", "c"), (3, "load", "b")]


def played(case: Case, **choices: Any) -> Verdict:
    return agree(replace(case, config=replace(case.config, **choices)))


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("prefill", ["cache", "bypass"])
@pytest.mark.parametrize("near", [False, True])
def test_all_copied_is_load_and_none_is_cpu(slots: int, prefill: str, near: bool) -> None:
    """To the nanosecond; of 2,000 bytes a copy takes longer than the host with all."""
    trace, model = scene([[0, 1, 2, 3], [2, 4], [0, 1, 4], [3]], 6)
    case = Case(trace, model, Config(slots=slots, prefill=prefill, near_memory=near), ToyPrices())
    loaded = played(case, miss="load", near_memory=False)
    assert played(case, miss="split", rule="bandwidth", alpha=1000.0).charges == loaded.charges
    large = replace(case, model=replace(model, expert_bytes=2000))
    divided = played(large, miss="split")
    assert divided.host_activations == divided.misses > 0
    assert divided.charges == played(large, miss="cpu").charges


@pytest.mark.parametrize("cpu_row", [1, 20, 60, 200])
@pytest.mark.parametrize("expert_bytes", [30, 100, 600])
@pytest.mark.parametrize("near", [False, True])
def test_the_least_makespan_stalls_least(cpu_row: int, expert_bytes: int, near: bool) -> None:
    """One step, nothing else queues, and kernels take next to nothing."""
    trace, model = scene([[0, 1, 2, 3, 4, 5]], 8)
    prices = ToyPrices(cpu_row=cpu_row, base=0, token=0, expert_start=0, expert=0, tile=0)
    case = Case(
        trace, replace(model, expert_bytes=expert_bytes), Config(slots=6, near_memory=near), prices
    )

    def stall(**choices: Any) -> int:
        choices["near_memory"] = near and choices["miss"] != "load"
        verdict = played(case, **choices)
        return verdict.stall_ns + verdict.cpu_wait_ns

    least = stall(miss="split")
    by_bandwidth = [stall(miss="split", rule="bandwidth", alpha=a) for a in (0.5, 1.0, 1.5)]
    kernels = 10
    assert least <= min(stall(miss="load"), stall(miss="cpu"), *by_bandwidth) + kernels


def test_cheapest_is_the_way_of_that_name() -> None:
    trace, model = scene([[0, 1, 2, 3], [2, 4], [0, 1, 4], [3]], 6)
    case = Case(trace, model, Config(slots=2), ToyPrices())
    assert (
        played(case, miss="split", rule="cheapest").charges == played(case, miss="cheapest").charges
    )


ROWS = st.lists(st.integers(0, 9), min_size=1, max_size=8)


FEW = st.integers(0, 90)


@given(rows=ROWS, start=FEW, up=FEW, copy=st.integers(1, 90), row=st.integers(0, 30))
def test_no_other_number_ends_sooner(
    rows: list[int], start: int, up: int, copy: int, row: int
) -> None:
    """Rows come up when both the copies and the host have ended."""
    numbers = range(sum(rows) + 1)
    moved = np.array([[n and first + n for n in numbers] for first in (start, up)], np.int64)
    prices = np.zeros((OFFERED, len(rows)), np.int64)
    prices[0], prices[3] = copy, rows
    prices[2] = [3 + row * n + moved[:, n].sum() for n in rows]
    planned = np.ones(len(rows), np.int64)
    divide_all(prices, moved, planned)
    ordered = sorted(range(len(rows)), key=lambda e: (-rows[e], e))

    def ends(copied: int) -> int:
        left = ordered[copied:]
        down, back = moved[:, sum(rows[e] for e in left)].tolist()
        host = sum(3 + row * rows[e] for e in left) + down
        return max(copied * copy, host) + back if left else copied * copy

    best = min(range(len(rows) + 1), key=ends)
    assert [int(planned[e]) for e in ordered] == [1] * best + [0] * (len(rows) - best)
