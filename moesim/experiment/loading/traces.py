"""The traces that experiments name: read and checked once, mapped by the processes of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from moesim.config.inputs import Files, InputFile, file_of, files_read, stamp, tell
from moesim.trace.cards import find_trace

if TYPE_CHECKING:
    from moesim.experiment.schema.experiment import Experiment
    from moesim.trace import RoutingTrace


class SharedTrace(NamedTuple):
    """The folder in which a trace lies as arrays, and the file that they were read from."""

    folder: Path
    file: InputFile


_shared: ContextVar[Mapping[Path, SharedTrace]] = ContextVar("shared", default=MappingProxyType({}))


def trace_of(experiment: Experiment) -> RoutingTrace:
    """The experiment's trace, checked; an InputError lists what is wrong with it.

    Tells what it was read from.
    """
    path = find_trace(experiment.trace, experiment.folders)
    if shared := _shared.get().get(path):
        tell("trace", experiment.trace, [shared.file])
        return _map(shared.folder)
    trace, files = _read(path, stamp(path))
    tell("trace", experiment.trace, files)
    return trace


def tell_trace(experiment: Experiment) -> None:
    """Tell what ``trace_of`` would, without reading the trace where its digest is known."""
    path = find_trace(experiment.trace, experiment.folders)
    shared = _shared.get().get(path)
    tell("trace", experiment.trace, [shared.file if shared else file_of(path)])


@lru_cache(maxsize=2)
def _read(path: Path, stamp: tuple[int, ...]) -> tuple[RoutingTrace, Files]:
    """The trace at ``path`` and its file, read once a process as long as its ``stamp`` stays."""
    from moesim.trace import read_trace

    del stamp
    with files_read() as files:
        trace = read_trace(path)
    return trace, tuple(files)


@lru_cache(maxsize=8)
def _map(folder: Path) -> RoutingTrace:
    from moesim.trace.mapped import map_arrays

    return map_arrays(folder)


def write_shared(experiments: Iterable[Experiment], folder: Path) -> dict[Path, SharedTrace]:
    """Write every trace of ``experiments`` as arrays below ``folder``: for ``shared_traces``."""
    from moesim.trace.mapped import write_arrays

    paths = dict.fromkeys(find_trace(one.trace, one.folders) for one in experiments)
    shared: dict[Path, SharedTrace] = {}
    for number, path in enumerate(paths):
        trace, (file,) = _read(path, stamp(path))
        shared[path] = SharedTrace(folder / f"{number:04d}", file)
        write_arrays(trace, shared[path].folder)
    return shared


@contextmanager
def shared_traces(shared: Mapping[Path, SharedTrace]) -> Iterator[None]:
    """Inside, the traces in ``shared`` are mapped instead of read from their files."""
    before = _shared.set(shared)
    try:
        yield
    finally:
        _shared.reset(before)
