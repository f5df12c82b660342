"""Intervals where users read them: a run, a sweep, two results, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from moesim.cli.main import main
from moesim.metrics.intervals import Difference
from moesim.report.comparison.intervals import BY_PRICES, limits_told, sentence
from moesim.report.comparison.sides import compare
from moesim.report.comparison.tables import rendered
from moesim.report.drawing.sheet import drawn
from moesim.report.figures import registry
from moesim.report.page.of_comparison import page_of_comparison
from moesim.sweep import read_points

EXPERIMENT = """\
name: small
model: small-moe
hardware: rtx-4060-8gb
trace: traces/small-moe.parquet
records: summary
experts: {capacity: 6 slots/layer}
sweep:
  experts.capacity: [6 slots/layer, 12 slots/layer]
  experts.policy.kind: [lru, lifo, min]
"""
CARDS = """\
name: cards
model: small-moe
hardware: rtx-4090
software: ideal
trace: traces/small-moe.parquet
records: summary
workload: {requests: 3}
sweep:
  hardware: [rtx-4090, rtx-5090]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real sweep of 32 requests, one at a time."""
    home = tmp_path_factory.mktemp("intervals")
    (home / "small.yaml").write_text(EXPERIMENT)
    assert main(["sweep", str(home / "small.yaml"), "--out", str(home / "sweep")]) == 0
    return home


@pytest.fixture
def points(folder: Path) -> list[str]:
    return [str(folder / "sweep" / "points" / f"{n:04d}") for n in range(6)]


def apart(value: float, low: float | None, high: float | None, **changes: Any) -> Difference:
    made: dict[str, Any] = {"paired": True, "kind": "batch", "blocks": 19, **changes}
    return Difference(value, low, high, **made)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (apart(3.14, 2.0, 4.2), "a beats b by 3.1 % [2.0, 4.2] (95 %, 19 batches, paired)"),
        (apart(-3.1, -4, -2), "a is slower than b: -3.1 % [-4.0, -2.0] (95 %, 19 batches, paired)"),
        (
            apart(0.31, -0.2, 0.84, paired=False, kind="steps"),
            "a and b are not distinguishable: 0.31 % [-0.20, 0.84] (95 %, 19 blocks, not paired)",
        ),
        (
            apart(0, 0, 0),
            "a and b are not distinguishable: 0.00 % [0.00, 0.00] (equal over 19 batches)",
        ),
        (
            apart(3, None, None, blocks=4, reason="4 blocks are too few"),
            "a over b: 3.0 %; no interval: 4 blocks are too few",
        ),
    ],
)  # fmt: skip
def test_what_is_said(one: Difference, told: str) -> None:
    assert sentence("a", "b", one) == told


def test_two_runs(points: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(points[0], points[1])["differences"].set_index("key")
    assert list(found.index) == [
        "output_throughput", "mean_tpot_ms", "hit_ratio_per_expert", "hit_ratio_per_access",
    ]  # fmt: skip
    speed = found.loc["output_throughput"]
    assert speed["low"] < speed["difference"] < speed["high"] < 0
    assert (speed["verdict"], speed["paired"], speed["unit"]) == ("different", True, "%")
    hits = found.loc["hit_ratio_per_expert"]
    summaries = compare(points[0], points[1])["results"].set_index("key")
    ratios = summaries.loc["hit_ratio_per_expert"]
    assert hits["difference"] == pytest.approx(100 * (ratios["second"] - ratios["first"]), abs=1)
    assert main(["compare", *points[:2]]) == 0
    shown = capsys.readouterr().out
    assert "different" in shown
    assert "paired" in shown


def test_the_prices_interval_is_told_with_and_without_one_of_sampling(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two cards that were never measured, off apart: by such prices nobody knows which is faster,
    as ``sweep`` says; the same on the page.
    """
    (folder / "cards.yaml").write_text(CARDS)
    out = folder / "cards"
    assert main(["sweep", str(folder / "cards.yaml"), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"are {BY_PRICES}: " in told
    runs = [out / "points" / f"{n:04d}" for n in (0, 1)]
    differences = compare(*runs)["differences"].set_index("key")
    assert list(differences["verdict"][:2]) == [BY_PRICES, BY_PRICES]  # speed and time a token
    row = differences.iloc[0]
    assert row["low"] is None
    assert row["price_low"] < 0 < row["price_high"]
    assert row["verdict"] == BY_PRICES
    assert main(["compare", *map(str, runs)]) == 0
    shown = capsys.readouterr().out
    assert "by prices" in shown
    for end in limits_told(row["price_low"], row["price_high"]).split():
        assert end in shown
    lines = page_of_comparison(("a", "b"), compare(*runs)).verdict
    assert any(BY_PRICES in str(line) and "by the prices' errors" in str(line) for line in lines)


def test_why_there_is_no_interval_is_told_once_below(
    points: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It had been folded into a column of ten letters, row by row."""
    from rich.console import Console

    rows = compare(points[0], points[1])["differences"].head(2)
    why = "6 blocks after the warm-up; an interval needs 10"
    few = rows.assign(low=None, high=None, verdict=[why, "different"])
    Console(width=100).print(*rendered({"differences": few}))
    shown = capsys.readouterr().out
    assert shown.count(f"no interval: {why}") == 1
    assert shown.count("no interval") == 2


def test_a_run_compared_with_itself_is_not_distinguishable(points: list[str]) -> None:
    found = compare(points[0], points[0])["differences"]
    assert set(found["verdict"]) == {"not distinguishable"}
    assert not found[["difference", "low", "high"]].to_numpy().any()


def test_the_table_of_a_sweep_has_columns_and_a_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(folder / "small.yaml"), "--out", str(folder / "sweep")]) == 0
    shown = capsys.readouterr().out
    table = read_points(folder / "sweep")
    for name in ("output_throughput", "mean_tpot_ms", "hit_ratio_per_access"):
        low, high = (table[f"intervals.{name}.{side}"] for side in ("low", "high"))
        assert (low < high).all()
    best, faster = (line for line in shown.splitlines() if "12 slots/layer" in line and ":" in line)
    assert best.startswith("after the warm-up, 12 slots/layer: l")
    assert " batches" in best
    assert faster.startswith("faster, but knows the future: 12 slots/layer, min, ")
    starred = next(line for line in shown.splitlines() if line.rstrip().endswith("*"))
    assert " min " not in starred
    assert "the points that do not know the future" in shown


def test_two_sweeps_have_limits_of_their_ratios(folder: Path) -> None:
    sweep = folder / "sweep"
    found = compare(sweep, sweep)["points"]
    assert found["ratio_low"].tolist() == found["ratio_high"].tolist() == [1.0] * 6
    assert not [name for name in found.columns if name.startswith("number")]


def test_a_run_prints_its_intervals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, told in (
        ([], "[low, high]: 95.0 % intervals of sampling alone, over "),
        (["--set", "workload.requests=5"], "no intervals: "),
    ):
        out = folder / f"run{len(options)}"
        assert main(["run", str(folder / "small.yaml"), "--out", str(out), *options]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert told in shown
        assert shown.count("after the warm-up │") == (0 if options else 3)


@pytest.mark.parametrize("kind", ["throughput_vs_capacity", "throughput_vs_memory"])
def test_figures_have_error_bars_where_there_are_intervals(
    kind: str, folder: Path, sweep: Path
) -> None:
    figure = registry.get(kind)()
    for source, bars in ((folder / "sweep", True), (sweep, False)):
        table = figure.prepare(source)
        assert ("low_output_throughput_tokens_per_s" in table.columns) is bars
        with drawn(figure, table) as sheet:
            assert bool(sheet.axes[0].containers) is bars


def test_the_best_is_judged_against_the_next_that_differs(folder: Path) -> None:
    from dataclasses import replace

    from moesim.report.sweep.best import best_lines
    from moesim.sweep.found import read_sweep

    sweep = read_sweep(folder / "sweep")
    lines = best_lines(sweep)
    best = sweep.best()
    assert best is not None
    twin = sweep.table.loc[[best.name]].assign(**{"experts.policy.kind": "fifo"})
    twins = pd.concat([sweep.table, twin], ignore_index=True)
    told = best_lines(replace(sweep, table=twins))
    assert told[0] == lines[0]
    assert told[1] == "as fast as the best: 12 slots/layer, fifo"
    (all_,) = best_lines(replace(sweep, table=twins.loc[[best.name, len(twins) - 1]]))
    assert all_ == "all 2 are as fast: what they differ in changes nothing here"


def test_results_without_blocks_have_no_verdict(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from moesim.report.sweep.best import best_lines
    from moesim.sweep.found import read_sweep

    (faster,) = best_lines(read_sweep(sweep))
    assert faster.startswith("faster, but knows the future: 12 slots/layer, min, ")
    assert pd.isna(compare(sweep, sweep)["points"]["ratio_low"]).all()
