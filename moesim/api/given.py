"""What the functions are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moesim.config.arguments import check_out, check_path

if TYPE_CHECKING:
    from moesim.experiment.loading.resolve import Resolved, Source
    from moesim.sweep.found import Sweep


def resolved_of(experiment: Source, overrides: Sequence[str]) -> Resolved:
    """The experiment alone: none of these answers looks at the points of its sweep."""
    from moesim.experiment.loading.resolve import load_experiment

    return load_experiment(experiment, overrides, alone=True)


def folder_of(given: Path | str | Sweep) -> Path | str:
    """The folder that is given, or that of a sweep; an InputError where it is neither."""
    from moesim.sweep.found import Sweep

    folder = given.folder if isinstance(given, Sweep) else given
    check_path(folder)
    return folder


def folder_for(out: Path | str | None, name: str) -> Path:
    """The folder ``out``, by default ``name`` in ``results``; an InputError where it is no path."""
    check_out(out)
    return Path(out) if out else Path("results") / name
