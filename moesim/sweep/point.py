"""One point of a sweep: an experiment, the folder of its result, and how it is evaluated."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError
from moesim.results.files import TEMPORARY, whole_folder, write_json

Evaluate = Callable[[Any, Path], Any]
"""Runs an experiment and writes its result folder at the path (new); picklable."""


@dataclass(frozen=True)
class Point:
    """A point's number in the order of the axes, its experiment, and its folder once finished."""

    number: int
    experiment: Any
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether the folder is there: it appears by a rename, so never in part."""
        return self.folder.is_dir()


def point_folder(sweep: Path, number: int) -> Path:
    """Where the result of point ``number`` stands in the folder of a sweep."""
    return sweep / "points" / f"{number:04d}"


def run_experiment(experiment: Any, out: Path) -> None:
    """The evaluation of a sweep's points unless another is given: one simulated run."""
    from moesim.experiment.run import run

    run(experiment, out=out)


def evaluate_point(point: Point, evaluate: Evaluate) -> None:
    """Evaluate ``point`` and let its folder appear; an exception becomes a result ``failed``.

    Where ``evaluate`` fails, the folder holds a summary with the reason and the traceback.
    """
    temporary = point.folder.with_name(f"{TEMPORARY}{os.getpid()}-{point.folder.name}")
    try:
        evaluate(point.experiment, temporary)
        temporary.rename(point.folder)
    except Exception as error:  # noqa: BLE001 (any failure is a row of the sweep, never its end)
        write_failure(point, reason_of(error), traceback.format_exc())
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_failure(point: Point, reason: str, details: str = "") -> None:
    """The folder of a point that could not be evaluated."""
    with whole_folder(point.folder) as temporary:
        if details:
            (temporary / "traceback.txt").write_text(details, encoding="utf-8")
        write_json(temporary / "summary.json", failure(reason))


def failure(reason: str) -> Mapping[str, str]:
    """The summary of a point that could not be evaluated."""
    return {"status": "failed", "reason": reason}


def reason_of(error: Exception) -> str:
    """One line for the row of a point that raised ``error``."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
