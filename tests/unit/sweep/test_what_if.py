"""A run with one thing changed, as if the experiment had it; bounds where nothing is played."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.report.page.upgrades import helped
from moesim.results import read_result, write_result
from moesim.sweep.advise import what_if as module
from moesim.sweep.advise.what_if import what_if
from tests.unit.results import factory

SMALL: dict[str, Any] = {
    "name": "small",
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "software": "vllm",
    "workload": {"requests": 4},
    "experts": {"capacity": "8 slots/layer"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("what-if")
    shutil.copy("traces/small-moe.parquet", folder / "mine.parquet")
    moesim.run(SMALL | {"trace": str(folder / "mine.parquet")}, out=folder / "run")
    return folder / "run"


def test_each_change_is_what_the_experiment_with_it_gives(run: Path) -> None:
    summary = read_result(run).summary
    found = what_if(run, summary)
    assert found.steps == summary["steps"]
    assert found.as_is["output_throughput"] == summary["output_throughput"]
    changed = {one.title: one.summary for one in found.changed}
    assert set(changed) == {
        "next PCIe generation", "2 x GPU memory bandwidth", "no software cost", "1.5 x expert slots"
    }  # fmt: skip
    overrides = {
        "no software cost": "software=ideal",
        "1.5 x expert slots": "experts.capacity=12 slots/layer",
    }
    for title, override in overrides.items():
        alone = moesim.run(
            SMALL | {"trace": str(run.parent / "mine.parquet")}, overrides=[override]
        )
        assert changed[title]["duration_ms"] == alone.summary["duration_ms"]


def test_nothing_is_faster_than_its_share_of_the_time_allows(run: Path) -> None:
    found = what_if(run, read_result(run).summary)
    before = found.as_is["duration_ms"]
    ratios = [before / one.summary["duration_ms"] for one in found.changed]
    bounds = [one.at_most or float("inf") for one in found.changed]
    assert all(1 <= ratio <= most for ratio, most in zip(ratios, bounds, strict=True))
    assert bounds.count(float("inf")) == 1
    assert max(ratios) > 1.1


def test_long_runs_are_played_from_their_begin(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = read_result(run).summary
    monkeypatch.setattr(module, "MOST_ACTIVATIONS", {"replay": 1000, "des": 1000})
    found = what_if(run, summary)
    assert 8 <= found.steps < summary["steps"]
    lines, board = helped(run, summary)
    assert f"the first {found.steps:,} of {summary['steps']:,} passes" in lines[1]
    assert board is not None
    assert [column.heading for column in board.columns][:3] == [
        "changed",
        "times as fast",
        "tokens/s",
    ]


def test_what_is_gone_or_takes_long_is_said_and_bounded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = read_result(run).summary
    monkeypatch.setattr(module, "MOST_S", 0.0)
    assert "would take long" in what_if(run, summary).why
    monkeypatch.undo()
    (run.parent / "mine.parquet").rename(tmp_path / "away")
    lines, board = helped(run, summary)
    (tmp_path / "away").rename(run.parent / "mine.parquet")
    assert lines[0].startswith("No upgrade was tried: the file that the run read is gone")
    assert board is not None
    assert board.columns[1].texts[0] == "-"
    assert board.columns[2].texts[0].startswith("x 1.")


def test_a_page_says_what_it_shows_of_time(run: Path, tmp_path: Path) -> None:
    from moesim.report.page import page_of

    page = page_of(run)
    assert [one.title for one in page.timeline] == ["time over run"]
    assert page.timeline_notes[0].startswith("The run kept its passes")
    assert page.helps[0].startswith("What would help most: ")
    bare = page_of(write_result(factory.result(), tmp_path / "bare"))
    assert bare.timeline_notes or bare.timeline
