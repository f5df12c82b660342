"""Long commands as JSON, the demo, and completion in a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moesim.cli.main import commands, main

TINY = (
    "name: tiny\nmodel: small-moe\nhardware: rtx-4060-8gb\ntrace: small-moe\n"
    "workload: {requests: 2, batching: {kind: static, batch_size: 1}}\n"
    "experts: {capacity: 4 slots/layer}\n"
    "sweep: {experts.capacity: [4 slots/layer, 8 slots/layer]}\n"
)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main(list(words)) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_run_is_its_summary(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    summary = told(capsys, "run", file, "-o", str(out), "--json")
    assert summary == json.loads((out / "summary.json").read_text())


def test_a_sweep_is_its_points_and_the_best(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "sweep", file, "-o", str(tmp_path / "sweep"), "--json", "--report")
    points = found["points"]
    assert isinstance(points, list)
    assert [one["experts.capacity"] for one in points] == ["4 slots/layer", "8 slots/layer"]
    assert found["best"] == max(points, key=lambda one: one["output_throughput"])
    assert found["axes"] == ["experts.capacity"]
    assert (tmp_path / "sweep" / "report.html").is_file()


def test_a_search_has_its_answer(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, limit = "workload.batching.batch_size", "mean_tpot_ms<=0.001"
    asked = ["search", file, "--vary", path, "--sla", limit, "-o", str(tmp_path / "search")]
    found = told(capsys, *asked, "--json")
    assert (found["vary"], found["limits"]) == (path, ["mean_tpot_ms <= 0.001"])
    assert (found["best"], found["first_broken"]) == (None, "1")


def test_the_demo_ends_with_its_page(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moesim.cli.demo.EXPERIMENT", file)
    out = tmp_path / "demo"
    assert main(["demo", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"page:   {out}/report.html" in shown
    assert "moesim timeline results/one" in shown
    assert (out / "report.html").is_file()
    assert (out / "figures" / "throughput_vs_capacity.png").is_file()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell: str) -> None:
    asked = {
        "_MOESIM_COMPLETE": f"complete_{shell}", "COMP_WORDS": "moesim swe", "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "moesim swe", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "moesim"],
        env=os.environ | asked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    words = {"bash": "sweep", "zsh": '_arguments \'*: :(("sweep":', "fish": "sweep\tSimulate"}
    assert done.stdout.strip().startswith(words[shell])


def test_an_experiment_begins_with_three_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["gpt-oss-20b", "rtx-3060-12gb", "chat"])
    asked: list[str] = []

    def answer(what: str, **_: object) -> str:
        asked.append(what)
        return next(answers)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.prompt", answer)
    out = tmp_path / "mine.yaml"
    assert main(["init", "-o", str(out)]) == 0
    assert [what.split()[0] for what in asked] == ["Model", "GPU", "Workload"]
    assert f"next:   moesim check {out}" in capsys.readouterr().out
    assert main(["check", str(out)]) == 0
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert main(["init", "-o", str(tmp_path / "other.yaml")]) == 2
    assert "MODEL: is needed; this is no terminal to ask at" in capsys.readouterr().err


PLAIN = ("moesim schema",)
"""What prints JSON in any case."""


def test_every_command_can_print_json() -> None:
    options = {name: {o for p in one.params for o in p.opts} for name, one in commands()}
    assert [name for name, known in options.items() if "--json" not in known] == list(PLAIN)


def test_figures_and_timelines_are_files(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    told(capsys, "run", file, "-o", str(out), "--json", "--set", "records=expert")
    drawn = told(capsys, "plot", str(out), "--json", "-f", "time_breakdown")
    assert drawn["left_out"] == []
    assert isinstance(drawn["files"], list)
    assert all(Path(one).is_file() for one in drawn["files"])
    line = told(capsys, "timeline", str(out), "-o", str(tmp_path / "t.json"), "--json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert line["spans"] == sum(event["ph"] == "X" for event in events) > 0
    page = told(capsys, "report", str(out), "--json")
    assert page == {"file": str(out / "report.html")}


def test_an_experiment_is_told_with_where_its_values_are_from(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "check", file, "--json")
    assert (found["points"], found["experiment"]["name"]) == (2, "tiny")  # type: ignore[index]
    assert found["origins"]["experts.policy.kind"] == "default"  # type: ignore[index]
    price = told(capsys, "explain", "rtx-4090", "--op", "gemm", "--set", "m=16", "--set", "n=4096",
                 "--set", "k=4096", "--json")  # fmt: skip
    assert price["parts"][-1]["term"] == "price"  # type: ignore[index]
    trace = "traces/small-moe.parquet"
    cut = ["trace", "slice", trace, "--requests", "0:2", "-o", str(tmp_path / "two.parquet")]
    assert told(capsys, *cut, "--json")["requests"] == 2
    valid = told(capsys, "trace", "validate", trace, "--json")
    assert valid == {"file": trace, "findings": []}
    curve = told(capsys, "trace", "curve", trace, "-o", str(tmp_path / "c.parquet"), "--json")
    assert len(curve["curve"]) > 10  # type: ignore[arg-type]
    again = [
        "trace",
        "fit",
        str(tmp_path / "two.parquet"),
        "-o",
        str(tmp_path / "p.yaml"),
        "--domains",
        "1",
        "--json",
    ]
    assert told(capsys, *again)["file"] == str(tmp_path / "p.yaml")
