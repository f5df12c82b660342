"""Whatever ends a sweep, the same command goes on: no point lost, none run twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.results import read_result
from moesim.results.store import LOG, read_log
from moesim.sweep import point_folder, run_sweep
from moesim.sweep.local import LocalProcesses
from moesim.sweep.lock import hold_alone
from moesim.sweep.point import Work
from tests.unit.sweep.evaluations import EXPERIMENT, Counted, points

SCRIPT = Path(__file__).with_name("sweep_process.py")
COUNT, SECONDS = 60, 0.05
PATIENCE_S = 300
"""Until a process that says nothing counts as hung: loaded machines start one in half a minute."""


def start(out: Path, markers: Path) -> subprocess.Popen[bytes]:
    arguments = [str(out), str(markers), str(COUNT), str(SECONDS), "2"]
    return subprocess.Popen([sys.executable, str(SCRIPT), *arguments], start_new_session=True)


def finished(out: Path) -> set[int]:
    return set(read_log(out))


def runs(markers: Path, n: int) -> int:
    return len((markers / str(n)).read_text().splitlines())


def wait_for_more(out: Path, process: subprocess.Popen[bytes], seconds: float) -> None:
    before, deadline = len(finished(out)), time.monotonic() + PATIENCE_S
    while len(finished(out)) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(seconds)


def kill_parent(process: subprocess.Popen[bytes]) -> None:
    process.kill()


def kill_all(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def press_ctrl_c(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)


def test_whatever_ends_a_sweep_nothing_is_lost_and_nothing_repeated(
    tmp_path: Path, markers: Path
) -> None:
    """A kill of the parent, of its processes too, and ctrl-C: each leaves whole points only."""
    out, moments = tmp_path / "ended", random.Random(3)
    evaluations: dict[int, int] = {}
    for end in (kill_parent, kill_all, press_ctrl_c):
        process = start(out, markers)
        wait_for_more(out, process, moments.uniform(0, 3 * SECONDS))
        end(process)
        assert process.wait(PATIENCE_S) != 0, end
        with hold_alone(out):  # its processes are gone as well
            stands = finished(out)
            time.sleep(4 * SECONDS)
            assert finished(out) == stands, end
            for n in stands:
                assert read_result(point_folder(out, n)).summary["hits"] == n * n, end
                evaluations.setdefault(n, runs(markers, n))
    assert 3 <= len(evaluations) < COUNT
    run_sweep(EXPERIMENT, points(COUNT), out, evaluate=Counted(markers))
    assert {n: runs(markers, n) for n in evaluations} == evaluations
    logged = [json.loads(line)["number"] for line in (out / LOG).read_text().splitlines()]
    assert sorted(logged) == list(range(COUNT))
    assert not list(out.rglob(".writing-*"))
    undisturbed = tmp_path / "undisturbed"
    (tmp_path / "others").mkdir()
    run_sweep(EXPERIMENT, points(COUNT), undisturbed, evaluate=Counted(tmp_path / "others"))
    for name in ("points.parquet", "points.csv", "sweep.json"):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_a_process_never_hears_ctrl_c(tmp_path: Path, markers: Path) -> None:
    """From its first moment: a terminal's ctrl-C goes to all, and Python's start takes a while."""
    worker = LocalProcesses(1, tmp_path / "lock")._start(Work(Counted(markers), tmp_path))
    status = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
    worker.stop()
    blocked = next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))
    assert blocked >> (signal.SIGINT - 1) & 1


def test_a_second_sweep_in_the_same_folder_waits_outside(tmp_path: Path, markers: Path) -> None:
    (tmp_path / "out").mkdir(parents=True)
    with (
        hold_alone(tmp_path / "out"),
        pytest.raises(InputError, match="another moesim sweep is running"),
    ):
        run_sweep(EXPERIMENT, points(2), tmp_path / "out", evaluate=Counted(markers))
