"""Long commands as JSON, the demo, and completion in a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moesim.cli.main import main

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


def test_a_shell_completes_commands() -> None:
    asked = {"_MOESIM_COMPLETE": "complete_bash", "COMP_WORDS": "moesim swe", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "moesim"],
        env=os.environ | asked, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["sweep"]
