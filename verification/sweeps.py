"""A sweep that is killed again and again, against one that nobody disturbs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from moesim.results.store import LOG, whole_bytes
from moesim.sweep.table import CSV, PARQUET
from verification.check import Measured, check

MOMENTS = 50
EXPERIMENT = """\
name: killed
model: gpt-oss-20b
hardware: rtx-4090
trace: traces/quickstart.parquet
workload: {requests: 1}
sweep:
  experts.capacity: [1 slots/layer, 2 slots/layer, 4 slots/layer, 6 slots/layer, 8 slots/layer,
    10 slots/layer, 12 slots/layer, 14 slots/layer, 16 slots/layer, 18 slots/layer]
  experts.policy.kind: [lru, lfu, fifo, lifo, random, min]
  experts.kernels: [grouped, serial]
"""
POINTS = 120


def start(experiment: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "moesim.cli.main", "sweep", str(experiment)]
    return subprocess.Popen(  # noqa: S603 (itself)
        [*command, "--out", str(out), "-j", "2", "--cache", "none"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def lines(out: Path) -> list[bytes]:
    """The whole lines of the log in ``out``."""
    log = out / LOG
    return log.read_bytes()[: whole_bytes(log)].splitlines() if log.exists() else []


def killed(experiment: Path, out: Path, moments: random.Random, most_s: float) -> tuple[int, bool]:
    """Start the sweep in ``out`` and kill it at a random moment, its workers too or not.

    Returns how many lines that stood before are lost, and whether it was killed before its end.
    """
    before = lines(out)
    process = start(experiment, out)
    whole_group = moments.random() < 0.5
    time.sleep(moments.uniform(0, most_s))
    in_time = process.poll() is None
    if in_time and whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    return len(set(before) - set(lines(out))), in_time


def twice(out: Path) -> int:
    """How many points the log in ``out`` has more than once."""
    counts = Counter(json.loads(line)["number"] for line in lines(out))
    return sum(count > 1 for count in counts.values())


@check(
    f"kill -9 at {MOMENTS} random moments of a sweep changes nothing that it finds",
    tolerance=0,
    why="a line of the log is whole or not there, and its result is on the disk before it",
    unit="points lost or counted twice, and tables that differ",
)
def killed_sweeps() -> Measured:
    moments, kills, wrong, ends = random.Random(7), 0, 0, 0  # noqa: S311 (no secret)
    with TemporaryDirectory() as folder:
        experiment, alone = Path(folder) / "killed.yaml", Path(folder) / "undisturbed"
        experiment.write_text(EXPERIMENT)
        began = time.perf_counter()
        assert start(experiment, alone).wait() == 0
        whole_s = time.perf_counter() - began
        while kills < MOMENTS:
            out = Path(folder) / f"killed-{ends}"
            while kills < MOMENTS and len(lines(out)) < POINTS:
                lost, in_time = killed(experiment, out, moments, whole_s)
                kills, wrong = kills + in_time, wrong + lost
            assert start(experiment, out).wait() == 0
            same = [(out / n).read_bytes() == (alone / n).read_bytes() for n in (PARQUET, CSV)]
            wrong, ends = wrong + twice(out) + same.count(False), ends + 1
        detail = (
            f"{kills} kills of {ends} sweeps of {len(lines(alone))} points, each {whole_s:.1f} s"
        )
    return Measured(float(wrong), detail)
