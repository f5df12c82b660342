"""``moesim run`` and ``moesim sweep`` from the command line, with the simulation replaced."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moesim.cli.main import main
from moesim.results import Result, read_result, write_result
from moesim.trace import Phase, RoutingTrace, TraceMetadata, write_trace

YAML = """\
model: gpt-oss-20b
hardware: {hardware}
trace: trace.parquet
sweep:
  experts.capacity: [4 slots/layer, 8 slots/layer]
  experts.policy.kind: [lru, fifo]
"""


def made_trace(tokens: int) -> RoutingTrace:
    """Decode tokens of one request that all choose experts 0 to 3, on gpt-oss-20b's 24 layers."""
    choices = np.broadcast_to(np.arange(4, dtype=np.uint16), (tokens, 24, 4))
    return RoutingTrace(
        expert_ids=np.ascontiguousarray(choices),
        request_id=np.zeros(tokens, dtype=np.int32),
        position=np.arange(tokens, dtype=np.int32),
        phase=np.full(tokens, Phase.DECODE, dtype=np.uint8),
        gate_weights=None,
        predicted_ids=None,
        metadata=TraceMetadata(
            model=None, experts=32, top_k=4, moe_layer_ids=tuple(range(24)),
            recorder="hand", source="made", licence="Apache-2.0",
        ),
    )  # fmt: skip


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment file; its simulation gives the slots as throughput."""
    pytest.importorskip("moesim.experiment.loading.resolve")
    write_trace(made_trace(3), tmp_path / "trace.parquet")
    path = tmp_path / "toy.yaml"
    path.write_text(YAML.format(hardware="h100-sxm"))
    module = types.ModuleType("moesim.experiment.running.run")
    module.run, module.simulate = run, simulate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "moesim.experiment.running.run", module)
    return path


def simulate(experiment: Any, **_: Any) -> Result:
    slots = experiment.experts.capacity.amount
    summary = {"name": experiment.name, "status": "ok", "output_throughput": 10.0 * slots}
    return Result(summary, experiment)


def run(resolved: Any, *, out: Path, **_: Any) -> Result:
    result = simulate(resolved.experiment)
    write_result(result, out)
    return result


def test_a_sweep_is_run_from_its_file(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["sweep", str(experiment), "--out", str(out)]) == 0
    assert f"moesim plot {out}" in capsys.readouterr().out
    table = pd.read_parquet(out / "points.parquet")
    assert list(table.columns[:4]) == [
        "experts.capacity", "experts.policy.kind", "status", "reason",
    ]  # fmt: skip
    assert table["experts.policy.kind"].tolist() == ["lru", "fifo"] * 2
    assert table["output_throughput"].tolist() == [40.0, 40.0, 80.0, 80.0]
    assert read_result(out / "points" / "0003").configuration["experts"]["policy"]["kind"] == "fifo"


def test_a_sweep_is_swept_again_from_its_folder(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trace lies beside the first file, and is named by a relative path there."""
    out, again = tmp_path / "deep" / "out", tmp_path / "again"
    assert main(["sweep", str(experiment), "--out", str(out)]) == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["sweep", str(out / "experiment.yaml"), "--out", str(again)]) == 0
    assert (again / "points.csv").read_bytes() == (out / "points.csv").read_bytes()
    assert main(["sweep", str(experiment), "--out", str(out), "--overwrite"]) == 0


def test_failed_points_are_counted_and_told_where_they_are(
    experiment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing(point: Any, **given: Any) -> Result:
        if point.experts.capacity.amount == 8 and point.experts.policy.kind == "lru":
            raise ValueError("no such thing")
        return simulate(point, **given)

    monkeypatch.setattr(sys.modules["moesim.experiment.running.run"], "simulate", failing)
    out = tmp_path / "out"
    assert main(["sweep", str(experiment), "--out", str(out)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        f"1 of 4 points failed: {out}/points.csv has each 'reason'; --retry-failed tries again"
    )
    table = pd.read_csv(out / "points.csv")
    assert table["status"].tolist() == ["ok", "ok", "failed", "ok"]
    assert table["reason"][2] == "ValueError: no such thing"
    monkeypatch.setattr(sys.modules["moesim.experiment.running.run"], "simulate", simulate)
    assert main(["sweep", str(experiment), "--out", str(out)]) == 1
    assert main(["sweep", str(experiment), "--out", str(out), "--retry-failed"]) == 0


def test_a_changed_experiment_in_the_same_folder_is_refused(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", str(experiment), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert main([*arguments, "--set", "seed=3"]) == 2
    assert "experiment.seed: 3 now, 0 in this folder" in capsys.readouterr().err
    write_trace(made_trace(4), tmp_path / "trace.parquet")
    assert main(arguments) == 2
    assert "inputs.trace" in capsys.readouterr().err


def test_a_damaged_trace_is_said_before_any_point_runs(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace.parquet").write_bytes(b"routing")
    assert main(["sweep", str(experiment), "--out", str(tmp_path / "out")]) == 2
    assert "trace.parquet" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_experiment_without_axes_is_not_swept(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.write_text(experiment.read_text().partition("sweep:")[0])
    assert main(["sweep", str(experiment), "--out", str(tmp_path / "out")]) == 2
    assert "no axes to sweep" in capsys.readouterr().err


def test_a_run_prints_its_table_and_refuses_a_folder_with_files(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(experiment), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--set", "experts.capacity=6 slots/layer"]) == 0
    assert "gpt-oss-20b on h100-sxm, trace, batch 1: ok" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "name a new or an empty folder" in capsys.readouterr().err


def test_points_can_be_sent_to_another_process(experiment: Path) -> None:
    from moesim.experiment.loading.resolve import load_experiment

    for _, point in load_experiment(experiment).points:
        sent = pickle.loads(pickle.dumps(point))
        assert sent == point
        assert sent.folders == point.folders
