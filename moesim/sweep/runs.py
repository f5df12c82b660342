"""Sweeps that a question asks for, in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moesim.experiment.schema.experiment import Experiment
from moesim.metrics.blocks import Blocks
from moesim.results.blocks import read_blocks
from moesim.sweep.point import point_folder
from moesim.sweep.run import Points, Progress, SweepOptions, run_sweep
from moesim.sweep.table import summary_of


@dataclass(frozen=True)
class Runs:
    """How the runs of a question are made: in the folder ``out``, ``jobs`` at the same time, which
    is as in ``SweepOptions``.
    """

    out: Path
    jobs: int | None = 1
    progress: Progress | None = None

    def summaries(
        self,
        base: Experiment,
        points: Points,
        name: str,
        *,
        before: int = 0,
        after: int = 0,
        told: bool = True,
    ) -> list[dict[str, Any]]:
        """The summaries of ``points``, a sweep in the folder ``name``; what has run is kept, what
        failed is tried again. ``before``, ``after``: other runs of the question, for the progress,
        which is ``told`` or not.
        """

        def tell(finished: int, total: int) -> None:
            if self.progress and told:
                self.progress(before + finished, before + total + after)

        folder = self.out / name
        run_sweep(
            base,
            points,
            folder,
            options=SweepOptions(jobs=self.jobs, retry_failed=True),
            progress=tell,
        )
        return [summary_of(folder, number) for number in range(len(points))]

    def blocks(self, name: str, number: int) -> Blocks | None:
        """The blocks of point ``number`` of the sweep in the folder ``name``."""
        return read_blocks(point_folder(self.out / name, number))
