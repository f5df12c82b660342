"""A sweep in a process of its own, to be killed: OUT MARKERS COUNT SECONDS JOBS."""

from __future__ import annotations

import sys
from pathlib import Path

from moesim.sweep import SweepOptions, run_sweep
from tests.unit.sweep.evaluations import EXPERIMENT, Counted, points

if __name__ == "__main__":
    out, markers, count, seconds, jobs = sys.argv[1:]
    run_sweep(
        EXPERIMENT,
        points(int(count)),
        out,
        options=SweepOptions(jobs=int(jobs)),
        evaluate=Counted(Path(markers), float(seconds)),
    )
