"""The chooser on the page of a sweep over models and machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.report.figures.throughput_vs_memory import ThroughputVsMemory
from moesim.report.page.best_of_each import best_of_each, chosen_lines
from moesim.report.page.chooser import choice_in_words, chooser_of
from moesim.sweep.speeds import GOOD, GOOD_COST
from tests.unit.report import choosers

ALL, AUTO = "all experts on the GPU", "missing experts copied"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return choosers.make(tmp_path_factory.mktemp("chooser") / "sweep")


def rows(folder: Path) -> dict[tuple[str, ...], list[Any]]:
    """By model, GPU and choice: the numbers, and what is said of them."""
    found = chooser_of(moesim.read_sweep(folder))
    assert found is not None
    texts, titles = found["texts"], [values for _, values in found["had"]]
    told = 3 + len(found["numbers"])
    return {
        (titles[0][row[0]], titles[1][row[1]], texts[row[2]]): [*row[3:told], texts[row[told]]]
        for row in found["rows"]
    }


def test_an_answer_has_its_range_and_what_it_waits_for(folder: Path) -> None:
    found = rows(folder)
    assert len(found) == 8
    speed, low, high, _, _, good, usd, usd_good, joules, peak, told = found["small", "g1", ALL]
    assert (speed, low, high) == (90.0, 60 / 1.25, 132 * 1.25)
    assert (good, usd, usd_good, peak) == (None, None, None, 1.0)
    assert joules == pytest.approx(100 / 90, rel=1e-3)
    assert told == "waiting for CPU, 75 %"


def test_what_does_not_run_says_why(folder: Path) -> None:
    *numbers, told = rows(folder)["small", "g2", ALL]
    assert set(numbers) == {None}
    assert told == "out of memory: weights do not fit"


def test_how_long_requests_wait_is_a_column_where_they_have_prompts(folder: Path) -> None:
    """Somebody who chooses a machine for documents cares more for the first token."""
    sweep = moesim.read_sweep(folder)
    timed = replace(sweep, table=sweep.table.assign(mean_ttft_ms=1234.0, mean_tpot_ms=20.0))
    for asked, told in ((sweep, {"TPOT ms"}), (timed, {"TTFT ms", "TPOT ms"})):
        chooser = chooser_of(asked)
        assert chooser is not None
        ((_, board),) = best_of_each(chooser)
        shown = {one.heading: one.values for one in board.columns}
        assert shown.keys() & {"TTFT ms", "TPOT ms"} == told
        assert shown.get("TTFT ms", [1234.0] * 2) == [1234.0] * 2


def test_a_link_that_follows_from_its_gpu_is_no_question(folder: Path) -> None:
    found = chooser_of(moesim.read_sweep(folder))
    assert found is not None
    assert [title for title, _ in found["had"]] == ["model", "GPU"]


def test_a_sweep_over_choices_alone_has_no_chooser(sweep: Path) -> None:
    assert chooser_of(moesim.read_sweep(sweep)) is None


def test_the_range_is_that_of_the_run(tmp_path: Path) -> None:
    """It had been that of the GPUs' expert kernels, where a prior of the CPU moves the speed most:
    27 to 37 tokens/s of a run that said 17 to 52.
    """
    found = rows(choosers.make(tmp_path / "sweep", shares=("50 %",), off=2.0))
    assert found["small", "g1", ALL][:3] == [90.0, 45.0, 180.0]


def test_no_error_that_is_known_is_no_range(tmp_path: Path) -> None:
    found = rows(choosers.make(tmp_path / "sweep", shares=("50 %",), off=None))
    assert found["small", "g1", ALL][:3] == [90.0, None, None]


def test_the_best_of_each_says_that_promises_are_broken(folder: Path) -> None:
    sweep = moesim.read_sweep(folder)
    for good, told in ((1.0, ""), (0.289, ", whatever clients are promised")):
        chooser = chooser_of(replace(sweep, table=sweep.table.assign(**{GOOD: good})))
        assert chooser is not None
        ((title, board),) = best_of_each(chooser)
        assert title == f"The fastest for each model{told}"
        assert (
            next(one for one in board.columns if one.heading == "good %").values == [100 * good] * 2
        )


def test_a_speed_that_requests_set_neither_has_a_range_nor_ranks(folder: Path) -> None:
    sweep = moesim.read_sweep(folder)
    dollars: dict[str, Any] = {GOOD: 1.0, GOOD_COST: range(1, len(sweep.table) + 1)}
    timed: dict[str, Any] = {"workload.arrivals.kind": "poisson", **dollars}
    for saturated, by in ((False, "$ a M good"), (True, "tokens/s")):
        table = sweep.table.assign(saturated=saturated, **timed)
        chooser = chooser_of(replace(sweep, table=table))
        assert chooser is not None
        assert chooser["by"] == by
        at = len(chooser["had"]) + 1 + chooser["numbers"].index("from")
        assert all(row[at] is None for row in chooser["rows"]) is not saturated
        titles = [title for title, _ in best_of_each(chooser)]
        assert ("The fastest for each model" in titles) is saturated


def test_what_is_done_is_said_in_words() -> None:
    layers, room, kind = "experts.on_cpu.layers", "experts.capacity", "experts.policy.kind"
    assert choice_in_words({layers: 0, room: "all"}) == ALL
    assert choice_in_words({layers: 0, room: "auto", kind: "lru"}) == f"{AUTO}, lru"
    cpu = "experts of 12 layers on the CPU"
    assert choice_in_words({layers: 12, room: "all"}) == f"{cpu}, all others on the GPU"
    assert choice_in_words({layers: 12}) == cpu
    assert choice_in_words({room: "8 slots/layer"}) == "8 slots/layer"
    assert choice_in_words({}) == "as it is"


def test_the_best_of_each_model_needs_no_script(folder: Path) -> None:
    chooser = chooser_of(moesim.read_sweep(folder))
    assert chooser is not None
    assert chosen_lines(chooser) == ["Pick your model and GPU below: 6 of 8 combinations run."]
    ((title, board),) = best_of_each(chooser)
    assert title == "The fastest for each model"
    assert [row[:4] for row in board.rows] == [
        ("small", "g1", ALL, "90"), (choosers.HOSTILE, "g1", ALL, "45"),
    ]  # fmt: skip


def test_a_guess_that_turns_out_well_is_on_no_front(folder: Path) -> None:
    front = ThroughputVsMemory().prepare(folder).query("pareto")
    assert len(front) == 2  # of each model one
    assert all("50 %" in point for point in front["point"])
