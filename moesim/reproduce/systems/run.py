"""Run the points of a system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.config.files.paths import find, lookup_folders
from moesim.experiment.loading.once import read_once
from moesim.reproduce.mapping import Progress, mapping
from moesim.reproduce.systems.load import load_system, record_of
from moesim.reproduce.systems.record import System

Numbers = Mapping[str, Any]
"""A run's numbers by dotted name; None where it has none."""


@dataclass(frozen=True)
class Found:
    """A system, and the numbers of its points; in what these are ``changed`` from its record's."""

    name: str
    system: System
    numbers: Mapping[str, Numbers]
    changed: Sequence[str] = ()

    @property
    def verdict(self) -> str:
        """The record's, which is of the runs as the record has them."""
        told = " ".join(self.system.verdict.split())
        of = f"Of the record's runs, not of these ({', '.join(self.changed)}): "
        return f"{of}{told}" if self.changed else told


@dataclass(frozen=True)
class PointWork:
    """Run one point."""

    experiment: Path
    overrides: tuple[str, ...]
    cache: Path | None = None

    def check(self) -> None:
        """Raise an InputError for bad settings."""
        from moesim.experiment.loading.resolve import load_experiment

        load_experiment(self.experiment, self.overrides, alone=True)

    def __call__(self) -> Numbers:
        """Its numbers."""
        from moesim.experiment.running.run import run

        options: dict[str, Any] = {"records": "summary", "cache": self.cache}
        return numbers_of(run(self.experiment, overrides=self.overrides, **options).summary)


@read_once()
def run_system(
    name: str,
    *,
    overrides: Sequence[str] = (),
    reduced: bool = False,
    jobs: int = 1,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Found:
    """The numbers of every point of ``name``, a shipped system or the file of a record.

    ``overrides``: of every point, as ``--set`` takes them; ``reduced``: quick runs; ``cache``: a
    folder of results that are used again where nothing has changed. InputError for an unknown name,
    bad settings, and a system whose mechanism is missing.
    """
    system, folders = load_system(name), lookup_folders(record_of(name))
    if not system.runs:
        raise InputError([Problem(name, "", f"is not run yet: moesim lacks {system.missing}")])
    works: dict[str, PointWork] = {}
    for runs in system.runs:
        shared = (*(runs.reduced if reduced else ()), *overrides)
        file = find(runs.experiment, folders)
        works |= {
            point: PointWork(file, (*own, *shared), cache) for point, own in runs.points.items()
        }
    for work in works.values():
        work.check()
    with mapping(jobs, len(works), progress) as mapped:
        numbers = mapped(list(works.values()))
    changed = (*(["short runs"] if reduced else []), *overrides)
    return Found(name, system, dict(zip(works, numbers, strict=True)), changed)


def numbers_of(summary: Mapping[str, Any]) -> Numbers:
    """The numbers of ``summary`` by dotted name; with ``time_ms``, a GPU's time by category."""
    found = dict(_flat(summary, ""))
    duration = summary.get("duration_ms")
    if duration is not None:
        shares = summary["time_share"].items()
        found |= {f"time_ms.{name}": share * duration for name, share in shares}
    return found


def _flat(values: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif not isinstance(value, list):
            yield f"{before}{name}", value
