"""Points in this process, and the rest in others where that is faster."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.engine.replay.log import DecisionLog
from moesim.sweep import SweepOptions, run_sweep
from tests.unit.sweep.evaluations import EXPERIMENT, Counted, points


def processes_of(markers: Path) -> list[int]:
    """By point the process that evaluated it."""
    found = [(int(one.name), int(one.read_text())) for one in markers.iterdir()]
    return [process for _, process in sorted(found)]


@pytest.mark.parametrize(("pays", "here"), [(1e9, 7), (-1.0, 1)])
def test_what_is_short_stays_here_and_the_rest_goes(
    tmp_path: Path, markers: Path, monkeypatch: pytest.MonkeyPatch, pays: float, here: int
) -> None:
    monkeypatch.setattr("moesim.sweep.where_pays.PAYS_S", pays)
    options = SweepOptions(jobs=None)
    table = run_sweep(
        EXPERIMENT, points(7, n3="raise"), tmp_path / "out", options=options,
        evaluate=Counted(markers),
    )  # fmt: skip
    assert table["status"].tolist() == ["ok"] * 3 + ["failed"] + ["ok"] * 3
    assert [one == os.getpid() for one in processes_of(markers)] == [True] * here + [False] * (
        7 - here
    )


def test_other_processes_read_the_traces_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And say what one process says."""
    source: dict[str, Any] = {
        "model": "gpt-oss-20b",
        "hardware": "h100-sxm",
        "trace": "traces/quickstart.parquet",
        "workload": {"requests": 1},
        "sweep": {"experts.capacity": [f"{slots} slots/layer" for slots in (4, 6, 8)]},
    }
    one = moesim.sweep(source, tmp_path / "one").table
    monkeypatch.setattr("moesim.sweep.where_pays.PAYS_S", -1.0)
    loaded = moesim.load_experiment(source)
    many = run_sweep(
        loaded.experiment, loaded.points, tmp_path / "many", options=SweepOptions(jobs=None)
    )
    assert many["duration_ms"].tolist() == one["duration_ms"].tolist()
    assert not list((tmp_path / "many").glob(".*traces*"))


def test_another_process_gets_an_empty_log() -> None:
    log = DecisionLog(decisions=True, most_bytes=1 << 20)
    log.put("key", np.zeros(9), 72)
    sent = pickle.loads(pickle.dumps(log))
    assert (sent.decisions, sent.most_bytes, sent.get("key")) == (True, 1 << 20, None)


UNGUARDED = """
import moesim
import moesim.sweep.where_pays as where

where.PAYS_S = -1.0
source = {"model": "small-moe", "hardware": "h100-sxm", "trace": "traces/small-moe.parquet"}
source |= {"workload": {"requests": 1}, "sweep": {"seed": [0, 1, 2]}}
moesim.sweep(source, "out", jobs=None)
"""


def test_a_script_that_its_processes_run_again_is_told_what_to_write(tmp_path: Path) -> None:
    """And leaves no traces behind."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    ended = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "under `if __name__ == '__main__':`, or with jobs=1" in ended.stderr
    assert not list((tmp_path / "out").glob(".*traces*"))
