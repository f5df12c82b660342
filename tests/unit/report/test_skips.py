"""What is skipped stands wherever its speed does, and the best skips nothing unless asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from moesim.report.comparison.sides import compare
from moesim.report.comparison.tables import rendered
from moesim.report.figures import registry
from moesim.report.plot import plot
from moesim.report.run.table import summary_table
from moesim.report.sweep.best import best_lines
from moesim.report.sweep.table import sweep_table
from moesim.results import Result
from moesim.sweep import run_sweep
from moesim.sweep.found import Sweep, read_sweep
from moesim.sweep.speeds import how_lost, losses_in_words
from tests.unit.results import factory

from .test_drops import starred, text_of

WEIGHED = {"skipped_choices": 5000, "skipped_share": 0.2, "skipped_gate_weight_share": 0.081}
BARE = {**WEIGHED, "skipped_gate_weight_share": None}
MADE: dict[str, tuple[float, dict[str, Any]]] = {
    "weighed": (900.0, WEIGHED),
    "bare": (700.0, BARE),
    "load": (500.0, {}),
}


def evaluate(experiment: dict[str, Any]) -> Result:
    speed, lost = MADE[experiment["kind"]]
    place = list(MADE).index(experiment["kind"])
    made = factory.summary(output_throughput=speed, peak_memory_bytes=(5 + place) << 30, **lost)
    return Result({"dropped_share": 0.0, **made}, experiment)


def made(folder: Path, *kinds: str) -> Sweep:
    points = [({"experts.miss.kind": kind, "n": 1}, {"kind": kind}) for kind in kinds]
    run_sweep({"name": "made"}, points, folder, evaluate=evaluate)
    return read_sweep(folder)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return made(tmp_path_factory.mktemp("skips") / "sweep", *MADE)


def rows_of(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in text.splitlines() if " ok" in line}


def test_the_star_goes_to_what_skips_nothing(sweep: Sweep) -> None:
    text = text_of(sweep_table(sweep.table, sweep.varying))
    assert starred(text) == ["load"]
    assert "skip no choice; --allow-drops: of all" in " ".join(text.split())
    assert starred(text_of(sweep_table(sweep.table, sweep.varying, allow_drops=True))) == [
        "weighed"
    ]


def test_the_table_has_the_weight_or_the_choices(sweep: Sweep) -> None:
    """Each in a column that says which."""
    rows = rows_of(text_of(sweep_table(sweep.table, sweep.varying)))
    assert rows["weighed"][2:4] == ["8.1", "-"]
    assert rows["bare"][2:4] == ["-", "20.0"]
    assert rows["load"][2:4] == ["0.0", "-"]
    weighed = sweep.table[sweep.table["experts.miss.kind"] != "bare"]
    text = text_of(sweep_table(weighed, ["experts.miss.kind"]))
    assert text.count("skipped") == text.count("weight %") == 1


def test_no_star_where_every_point_skips(tmp_path: Path) -> None:
    skipping = made(tmp_path / "s", "weighed", "bare")
    text = text_of(sweep_table(skipping.table, skipping.varying))
    assert "no star: every point skips choices" in text
    assert skipping.best() is None
    assert "900 tokens/s, skips 8.1 % of gate weight" in repr(skipping)


def test_the_sentence_names_what_is_faster_and_skips(sweep: Sweep) -> None:
    (line,) = best_lines(sweep)
    assert line == "faster, but skips 8.1 % of its gate weight: weighed, 900 tokens/s against 500"
    assert best_lines(sweep, allow_drops=True) == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{}], ""),
        ([{"dropped_share": 0.38}], "drops 38.0 %"),
        ([WEIGHED], "skips 8.1 % of gate weight"),
        ([WEIGHED, {}], "skips 0.0 % to 8.1 % of gate weight"),
        ([WEIGHED, BARE], "skips 20.0 % of choices"),
        ([{"dropped_share": 0.1, **BARE}], "drops 10.0 %, skips 20.0 % of choices"),
    ],
)
def test_losses_in_words(rows: list[dict[str, Any]], words: str) -> None:
    assert losses_in_words(pd.DataFrame(rows, index=range(len(rows)))) == words


def test_both_ways_to_lose_are_named() -> None:
    both = pd.DataFrame([{"dropped_share": 0.1, **BARE}])
    assert losses_in_words(both, told=True) == (
        "drops 10.0 % of its choices and skips 20.0 % of its choices"
    )
    assert how_lost(both) == "drop or skip"
    assert how_lost(both, "s") == "drops or skips"


def test_a_run_says_what_it_skips_and_whether_weight_is_known() -> None:
    weighed, bare = (factory.summary(**lost) for lost in (WEIGHED, BARE))
    assert "20.0 % (5,000); 8.1 % of gate weight" in text_of(summary_table(weighed))
    assert "20.0 % (5,000); the trace has no gate weights" in text_of(summary_table(bare))
    assert "skipped" not in text_of(summary_table(factory.summary()))
    assert "20 % of choices skipped, 8.1 % of gate weight" in repr(Result(weighed, {}))
    assert "20 % of choices skipped" in repr(Result(bare, {}))


def test_the_front_is_of_what_skips_nothing(sweep: Sweep) -> None:
    from moesim.report.drawing.sheet import drawn

    figure = registry.get("throughput_vs_memory")()
    table = figure.prepare(sweep.folder)
    assert set(table.loc[table["pareto"], "series"]) == {"load"}
    with drawn(figure, table) as sheet:
        (axes,) = sheet.axes
        texts = {text.get_text() for text in axes.texts}
        assert {"skips 8.1 % of gate weight", "skips 20.0 % of choices"} <= texts
        assert axes.get_title("left").endswith("of what skips no choice")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("time_breakdown", "weighed (skips 8.1 % of gate weight)"),
        (
            {"kind": "metric_over_axis", "metric": "output_throughput", "over": "n"},
            "skips 20.0 % of choices",
        ),
    ],
)
def test_figures_name_the_share(sweep: Sweep, tmp_path: Path, kind: Any, text: str) -> None:
    svg = next(p for p in plot(sweep.folder, [kind], out=tmp_path) if p.suffix == ".svg")
    assert text in svg.read_text()


def test_a_comparison_shows_the_shares_where_one_of_two_skips(sweep: Sweep, tmp_path: Path) -> None:
    points = [({"experts.miss.kind": kind, "n": 1}, {"kind": "load"}) for kind in MADE]
    run_sweep({"name": "made"}, points, tmp_path / "loads", evaluate=evaluate)
    loads = read_sweep(tmp_path / "loads")
    shown = "".join(text_of(part, 200) for part in rendered(compare(sweep, loads)))
    assert "8.1 %" in shown
    assert "20.0 %" in shown
    weighed = made(tmp_path / "weighed", "weighed", "load")
    shown = "".join(text_of(part, 100) for part in rendered(compare(weighed, loads)))
    assert "8.1 %" in shown
    assert "20.0 %" not in shown, "gate weight is known of all that skip, and says more"
    same = compare(*(sweep.folder / "points" / "0000" for _ in range(2)))["results"]
    assert same["key"].tolist() == ["skipped_share", "skipped_gate_weight_share"]


def test_columns_of_skips_are_only_where_something_is_skipped(sweep: Sweep, tmp_path: Path) -> None:
    loads = made(tmp_path / "loads", "load")
    figure = registry.get("throughput_vs_memory")()
    assert "skipped_share" not in figure.prepare(loads.folder)
    assert "skipped_share" in figure.prepare(sweep.folder)
    assert not any("skipped" in str(name) for name in compare(loads, loads)["points"])


def test_speed_against_quality_says_who_knows_the_future(tmp_path: Path) -> None:
    points = [({"n": n, "experts.policy.kind": kind}, {"kind": "weighed"})
              for n in (1, 2) for kind in ("lru", "min")]  # fmt: skip
    run_sweep({"name": "made"}, points, tmp_path / "sweep", evaluate=evaluate)
    files = plot(tmp_path / "sweep", ["speed_against_quality"], out=tmp_path / "figures")
    svg = next(path for path in files if path.suffix == ".svg").read_text()
    assert "min (knows the future)" in svg
    assert "lru (" not in svg
