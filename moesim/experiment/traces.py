"""The traces that experiments name: read and checked once, mapped by the processes of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from moesim.config.paths import find

if TYPE_CHECKING:
    from moesim.experiment.schema import Experiment
    from moesim.trace import RoutingTrace

_mapped: dict[Path, Path] = {}
"""Where this process finds traces as arrays."""


def trace_of(experiment: Experiment) -> RoutingTrace:
    """The experiment's trace."""
    path = find(experiment.trace, experiment.folders)
    return trace_at(path)


def trace_at(path: Path) -> RoutingTrace:
    """The trace in the file ``path``, checked; an InputError lists what is wrong with it."""
    if folder := _mapped.get(path):
        return _map(folder)
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: Path, changed_ns: int) -> RoutingTrace:
    """The trace at ``path``, read once a process; ``changed_ns`` tells a changed file from the one
    read.
    """
    from moesim.trace import read_trace

    del changed_ns
    return read_trace(path)


@lru_cache(maxsize=8)
def _map(folder: Path) -> RoutingTrace:
    from moesim.trace.mapped import map_arrays

    return map_arrays(folder)


def write_shared(experiments: Iterable[Experiment], folder: Path) -> dict[Path, Path]:
    """Write every trace of ``experiments`` as arrays below ``folder``: for ``use_shared``."""
    from moesim.trace.mapped import write_arrays

    paths = dict.fromkeys(find(one.trace, one.folders) for one in experiments)
    shared = {path: folder / f"{number:04d}" for number, path in enumerate(paths)}
    for path, target in shared.items():
        write_arrays(trace_at(path), target)
    return shared


def use_shared(shared: Mapping[Path, Path]) -> None:
    """From now on this process maps the traces in ``shared`` instead of reading their files."""
    _mapped.clear()
    _mapped.update(shared)
