"""The commands that read a result, from the command line's side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moesim.cli.main import main
from moesim.results import write_result
from tests.unit.report import sweeps
from tests.unit.results import factory


def test_plot_writes_figures_and_says_where(
    sweep: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["plot", str(sweep), "-f", "time_breakdown", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / f"time_breakdown.{suffix}") for suffix in ("csv", "png", "svg")
    ]


def test_plot_of_no_result_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["plot", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert str(tmp_path) in captured.err


def test_timeline_writes_the_asked_steps(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = write_result(factory.result(with_spans=True), tmp_path / "run")
    out = tmp_path / "t.json"
    assert main(["timeline", str(run), "--steps", "0:2", "-o", str(out)]) == 0
    assert "12 spans" in capsys.readouterr().out
    events = json.loads(out.read_text())["traceEvents"]
    assert {e["args"]["step"] for e in events if e["ph"] == "X"} == {0, 1}


@pytest.mark.parametrize("what", ["gatings", "planners", "batchings", "figures"])
def test_list_has_a_line_about_everything(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) >= 2
    assert all(row["name"] and len(row["description"]) > 10 for row in rows)


def test_list_models_has_their_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    mixtral = rows["mixtral-8x7b"]
    assert round(mixtral["parameters"] / 1e9, 1) == 46.7
    assert (mixtral["experts"], mixtral["top_k"], mixtral["moe_layers"]) == (8, 2, 32)
    assert main(["list", "models"]) == 0
    assert "46.7" in capsys.readouterr().out


def test_list_of_something_else_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "polices"]) == 2
    assert "did you mean 'policies'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "one"), [("prefetchers", "next_layer"), ("misses", "cheapest"), ("fitters", "copies")]
)
def test_every_kind_of_component_is_listed(
    what: str, one: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", what]) == 0
    assert one in capsys.readouterr().out


def test_brackets_in_a_description_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "collectors", "--json"]) == 0
    said = {row["name"]: row["description"] for row in json.loads(capsys.readouterr().out)}
    assert "[" in said["products"]
    assert main(["list", "collectors"]) == 0
    assert capsys.readouterr().out.count("[") == sum(text.count("[") for text in said.values())


def test_a_made_sweep_is_shown_as_a_table(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from moesim.cli.sweep import show
    from moesim.sweep.found import read_sweep

    show(read_sweep(sweep), allow_drops=False)
    text = capsys.readouterr().out
    assert "points.csv" in text
    assert f"moesim plot {sweep}".replace("\n", "") in text
    assert f"{sweeps.summary(4, 'lru', 1)['mean_tpot_ms']:.3g}" in text


def test_a_profiles_plain_values_are_its_key_figures() -> None:
    from moesim.config.params import Params
    from moesim.report.catalogue import key_figures

    class Profile(Params):
        name: str
        datasheet: dict[str, object]

    memory = {"value": "80 GiB", "source": "datasheet"}
    datasheet = {"memory": memory, "sms": 132, "source": "the maker", "links": [1, 2]}
    figures = key_figures(Profile(name="h100", datasheet=datasheet))
    assert figures == {"memory": "80 GiB", "sms": 132}


def test_a_list_in_a_narrow_terminal_keeps_the_names_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", "models"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("gpt-oss-120b", "deepseek-v2-lite", "qwen3-235b-a22b"))


@pytest.mark.parametrize("what", ["models", "hardware"])
def test_a_catalogue_fits_80_columns_with_a_line_an_entry(
    what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["list", what, "--json"]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    first, last = (next(i for i, x in enumerate(lines) if x.startswith(n + " ")) for n in
                   (names[0], names[-1]))  # fmt: skip
    assert [line.split()[0] for line in lines[first : last + 1]] == names


def test_list_of_nothing_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 2
    assert "allowed: arrivals, batchings, collectors, costs" in capsys.readouterr().err


def test_a_description_is_a_whole_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "policies", "--json"]) == 0
    (best,) = [row for row in json.loads(capsys.readouterr().out) if row["name"] == "min"]
    assert not best["description"].endswith("a step's")


def test_plot_into_a_file_is_one_line_and_exit_code_2(
    sweep: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["plot", str(sweep), "-f", "time_breakdown", "-o", str(tmp_path / "file")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line
