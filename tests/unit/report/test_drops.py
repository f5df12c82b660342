"""What a gating drops stands wherever its speed does, and the best drops nothing unless asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

import moesim
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.report.advice.chosen_run import run_of
from moesim.report.comparison.sides import compare
from moesim.report.comparison.tables import rendered
from moesim.report.figures import registry
from moesim.report.page.of_sweep import board_of, sweep_answer
from moesim.report.plot import figure_of, plot
from moesim.report.run.table import summary_table
from moesim.report.sweep.best import best_lines
from moesim.report.sweep.table import sweep_table
from moesim.results import Result, read_result, write_result
from moesim.results.blocks import read_blocks
from moesim.results.pack import DamagedError, pack, unpack
from moesim.sweep import run_sweep, speeds
from moesim.sweep.found import Sweep, read_sweep
from moesim.sweep.speeds import share_in_words
from tests.unit.results import factory

SPEEDS = {"gshard": (900.0, 0.38), "dynamic": (500.0, 0.0), "static": (400.0, 0.0001)}
PEAKS = {"gshard": 5, "dynamic": 6, "static": 7}


def evaluate(experiment: dict[str, Any]) -> Result:
    kind = experiment["kind"]
    speed, share = SPEEDS[kind]
    made = factory.summary(
        output_throughput=speed, dropped_share=share, dropped_choices=round(share * 1e6),
        peak_memory_bytes=PEAKS[kind] << 30,
    )  # fmt: skip
    return Result(made, experiment)


def made(folder: Path, *kinds: str) -> Sweep:
    points = [({"gating.kind": kind, "n": 1}, {"kind": kind}) for kind in kinds]
    run_sweep({"name": "made"}, points, folder, evaluate=evaluate)
    return read_sweep(folder)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return made(tmp_path_factory.mktemp("drops") / "sweep", *SPEEDS)


def text_of(part: Any, width: int = 140) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(part)
    return capture.get()


def starred(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.rstrip().endswith(" *")]


def test_the_star_goes_to_what_drops_nothing(sweep: Sweep) -> None:
    text = text_of(sweep_table(sweep.table, sweep.varying))
    assert starred(text) == ["dynamic"]
    row = next(line for line in text.splitlines() if line.startswith("gshard"))
    assert "38.0" in row
    assert "drop no choice; --allow-drops: of all" in " ".join(text.split())
    asked = text_of(sweep_table(sweep.table, sweep.varying, allow_drops=True))
    assert starred(asked) == ["gshard"]


def test_beside_the_star_stands_what_it_serves_in_lower_formats(sweep: Sweep) -> None:
    share = (sweep.table["gating.kind"] == "dynamic").map({True: 0.23, False: 0.0})
    text = text_of(sweep_table(sweep.table.assign(lowered_share=share), sweep.varying))
    assert "with 23.0 % of the gate weight in lower formats;" in " ".join(text.split())


def test_the_share_stays_in_a_narrow_table(sweep: Sweep) -> None:
    assert "dropped" in text_of(sweep_table(sweep.table, sweep.varying, 40), 40)


def test_without_drops_there_is_no_column(sweep: Sweep) -> None:
    alone = sweep.table[sweep.table["gating.kind"] == "dynamic"]
    assert "drop" not in text_of(sweep_table(alone, ["gating.kind"]))


def test_no_star_where_every_point_drops(tmp_path: Path) -> None:
    dropping = made(tmp_path / "s", "gshard", "static")
    text = text_of(sweep_table(dropping.table, dropping.varying))
    assert starred(text) == []
    assert "no star: every point drops choices" in text
    assert dropping.best() is None
    assert "best: gshard, 900 tokens/s, drops 38.0 %" in repr(dropping)


def test_a_star_beyond_the_shown_points_is_shown(sweep: Sweep) -> None:
    assert starred(text_of(sweep_table(sweep.table, sweep.varying, most=1))) == ["dynamic"]


def test_the_sentence_names_what_is_faster_and_drops(sweep: Sweep) -> None:
    (line,) = best_lines(sweep)
    told = "faster, but drops 38.0 % of its choices: gshard, 900 tokens/s against 500"
    assert line == told
    assert best_lines(sweep, allow_drops=True) == []


def test_the_cheapest_is_told_beside_the_fastest(sweep: Sweep) -> None:
    """By good tokens, where clients are promised something; of several models none is."""

    def told(**columns: Any) -> list[str]:
        table = sweep.table.assign(**{speeds.COST: [0.5, 0.3, 0.2], **columns})
        lines = best_lines(replace(sweep, table=table), allow_drops=True)
        return [line for line in lines if line.startswith("cheapest")]

    assert told() == ["cheapest: static, 0.200 $ a million output tokens"]
    good = {speeds.GOOD_COST: [0.6, 0.4, None]}
    assert told(**good) == ["cheapest: dynamic, 0.400 $ a million good tokens"]
    assert told(**{speeds.GOOD_COST: [None, None, None]}) == []
    assert told(model=["a@q8_0", "a", "b"]) == []
    assert len(told(model=["a@q8_0", "a", "a"])) == 1


def test_python_has_the_same_best(sweep: Sweep) -> None:
    best, fastest = sweep.best(), sweep.best(allow_drops=True)
    assert best is not None
    assert fastest is not None
    assert (best["gating.kind"], fastest["gating.kind"]) == ("dynamic", "gshard")
    assert "best: dynamic, 500 tokens/s" in repr(sweep)


def test_a_run_says_what_it_drops() -> None:
    dropping = factory.summary(dropped_share=0.38, dropped_choices=83790)
    assert "38.0 % (83,790)" in text_of(summary_table(dropping))
    assert "dropped" not in text_of(summary_table(factory.summary()))
    assert "38 % of choices dropped" in repr(Result(dropping, {}))


def test_advice_says_what_the_gating_drops() -> None:
    from moesim.report.advice.tables import _drops

    assert _drops({"dropped_share": 0.38}) == ["the gating drops 38.0 % of all choices"]
    assert _drops({"dropped_share": 0.0}) == []


@pytest.mark.parametrize(("share", "words"), [(0.0, "0.0 %"), (1e-5, "<0.1 %"), (0.176, "17.6 %")])
def test_a_small_share_is_not_shown_as_none(share: float, words: str) -> None:
    assert share_in_words(share) == words


@pytest.mark.parametrize("allowed", [False, True])
def test_the_front_is_of_what_drops_nothing(sweep: Sweep, *, allowed: bool) -> None:
    figure = figure_of({"kind": "throughput_vs_memory", "allow_drops": allowed})
    table = figure.prepare(sweep.folder)
    front = set(table.loc[table["pareto"], "series"])
    assert front == ({"gshard"} if allowed else {"dynamic"})


def test_every_point_is_inside_the_figure_and_a_dropping_one_says_so(sweep: Sweep) -> None:
    from moesim.report.drawing.sheet import drawn

    figure = registry.get("throughput_vs_memory")()
    with drawn(figure, figure.prepare(sweep.folder)) as sheet:
        (axes,) = sheet.axes
        assert axes.get_ylim()[1] > 900
        assert "drops 38.0 %" in {text.get_text() for text in axes.texts}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("time_breakdown", "gshard (drops 38.0 %)"),
        ({"kind": "metric_over_axis", "metric": "output_throughput", "over": "n"}, "drops 38.0 %"),
    ],
)
def test_figures_name_the_share(sweep: Sweep, tmp_path: Path, kind: Any, text: str) -> None:
    svg = next(p for p in plot(sweep.folder, [kind], out=tmp_path) if p.suffix == ".svg")
    assert text in svg.read_text()


def test_the_memory_shown_is_that_of_the_best(sweep: Sweep) -> None:
    name, _ = run_of(registry.get("memory_over_time")(), sweep.folder)
    assert name == "best point, dynamic"


def test_a_comparison_shows_the_shares(sweep: Sweep) -> None:
    shown = "".join(text_of(part) for part in rendered(compare(sweep, sweep)))
    assert "38.0 %" in shown
    same = compare(*(sweep.folder / "points" / "0000" for _ in range(2)))["results"]
    assert same["key"].tolist() == ["dropped_share"]


def test_an_earlier_name_is_refused_with_todays(tmp_path: Path) -> None:
    old = factory.summary()
    old["dropped_tokens"] = old.pop("dropped_choices")
    folder = write_result(Result(old, {}), tmp_path / "old")
    with pytest.raises(InputError, match="'dropped_tokens', which is 'dropped_choices' now"):
        read_result(folder)
    made(tmp_path / "sweep", "dynamic")
    log = tmp_path / "sweep" / "finished.jsonl"
    log.write_text(log.read_text().replace("dropped_choices", "dropped_tokens"))
    with pytest.raises(InputError, match=r"finished\.jsonl:1: .*'dropped_choices' now"):
        read_result(tmp_path / "sweep" / "points" / "0000")
    points = tmp_path / "sweep" / "points.parquet"
    pd.read_parquet(points).rename(columns={"dropped_choices": "dropped_tokens"}).to_parquet(points)
    with pytest.raises(InputError, match="'dropped_choices' now"):
        moesim.read_sweep(tmp_path / "sweep")


def test_a_column_with_an_earlier_name_is_refused_with_todays(tmp_path: Path) -> None:
    result = factory.result()
    steps = result.steps.rename(columns={"activations": "turns"})
    folder = write_result(replace(result, steps=steps), tmp_path / "old")
    with pytest.raises(InputError, match=r"steps\.parquet: .*'turns', which is 'activations' now"):
        read_result(folder)
    blocks = pd.DataFrame({"first_step": [0], "turns": [1]})
    blocks.to_parquet(folder / "blocks.parquet")
    with pytest.raises(InputError, match=r"blocks\.parquet: .*'activations' now"):
        read_blocks(folder)
    with pytest.raises(DamagedError, match="'turns', which is 'activations' now"):
        unpack(pack(replace(result, steps=steps)))


def test_an_asked_metric_with_an_earlier_name_is_told(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--metric", "dropped_tokens", "--over", "gating"]
    assert main(["plot", str(sweep.folder), *options]) == 2
    assert "'dropped_tokens' is 'dropped_choices' now" in capsys.readouterr().err


def test_a_real_gating_drops_what_it_says(tmp_path: Path) -> None:
    experiment = {
        "model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "traces/small-moe.parquet",
        "parallelism": {"expert": 2}, "gating": {"kind": "static", "capacity_fraction": "10 %"},
        "workload": {"batching": {"kind": "static", "batch_size": 16}, "requests": 16},
        "records": "summary",
    }  # fmt: skip
    summary = moesim.run(experiment, out=tmp_path / "run").summary
    choices = summary["dropped_choices"] / summary["dropped_share"]
    executed = json.loads((tmp_path / "run" / "summary.json").read_text())["waste_factor"]
    kept = choices - summary["dropped_choices"]
    assert 0 < summary["dropped_share"] < 1
    assert kept == pytest.approx(executed * choices * (1 - summary["padding_ratio"]))


@pytest.mark.parametrize(
    ("arrivals", "saturated", "star"),
    [
        ("poisson", False, []),
        ("poisson", None, ["dynamic"]),
        ("poisson", True, ["dynamic"]),
        ("closed_loop", False, ["dynamic"]),
        ("at_once", False, ["dynamic"]),
    ],
)
def test_no_star_where_arrivals_set_the_throughput(sweep, arrivals, saturated, star) -> None:
    table = sweep.table.assign(saturated=saturated)
    kept_up = speeds.kept_up(table, {"workload": {"arrivals": {"kind": arrivals}}})
    text = text_of(sweep_table(table, sweep.varying, kept_up=kept_up))
    assert starred(text) == star
    assert ("they set its throughput" in " ".join(text.split())) == (not star)
    assert not speeds.kept_up(sweep.table, {}).any()


@pytest.mark.parametrize(
    ("good", "column", "told"),
    [(None, False, False), ([1.0, 1.0, 1.0], True, False), ([1.0, 0.289, 1.0], True, True)],
)
def test_beside_the_fastest_stands_what_is_promised(sweep, good, column, told) -> None:
    table = sweep.table.assign(**{speeds.GOOD: good})
    text = " ".join(text_of(sweep_table(table, sweep.varying)).split())
    assert (" good " in text) == column
    assert ("28.9" in text, ", whatever clients are promised" in text) == (told, told)
    line = next(iter(sweep_answer(replace(sweep, table=table), {"output_throughput": 1.0})))
    assert ("whatever clients are promised: " in line) == told
    titles = [one.heading for one in board_of(replace(sweep, table=table)).columns]
    assert ("good %" in titles) == column


def test_a_page_names_no_fastest_point_there_either(sweep, monkeypatch) -> None:
    told = list(sweep_answer(sweep, {"output_throughput": 1.0}))
    assert told[0].startswith("The fastest of ")
    assert board_of(sweep).best is not None
    every = property(lambda self: pd.Series(data=True, index=self.table.index))
    monkeypatch.setattr(Sweep, "kept_up", every)
    told = list(sweep_answer(sweep, {"output_throughput": 1.0}))
    assert told[0].startswith("No star: requests come when they come")
    assert not any("fastest of" in line for line in told)
    assert board_of(sweep).best is None
