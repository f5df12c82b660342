"""The traces that experiments name: read and checked once, mapped by the processes of a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from moesim.config.files.inputs import Files, InputFile, file_of, files_read, stamp, tell
from moesim.experiment.loading.batches import Batches
from moesim.experiment.loading.default_trace import default_trace
from moesim.experiment.loading.names import needed
from moesim.model.routed import routed
from moesim.trace.cards import find_trace, is_drawn, scaled_from
from moesim.trace.losses import IN_PART
from moesim.trace.transforming import Transformed, transform

if TYPE_CHECKING:
    from moesim.experiment.schema.experiment import Experiment
    from moesim.model import ModelSpec
    from moesim.trace import RoutingTrace
    from moesim.trace.transforms import Transform


class SharedTrace(NamedTuple):
    """The folder in which a trace lies as arrays, and the file that they were read from."""

    folder: Path
    file: InputFile


class TraceSource(NamedTuple):
    """The file of a trace; of a stand-in that which it is scaled from, the model it is for, and how
    many requests it needs.
    """

    path: Path
    model: ModelSpec | None
    requests: int = 0


_shared: ContextVar[Mapping[TraceSource, SharedTrace]] = ContextVar(
    "shared", default=MappingProxyType({})
)


def _source(experiment: Experiment) -> TraceSource:
    path = find_trace(experiment.trace, experiment.folders)
    if scaled_from(experiment.trace) is None:
        return TraceSource(path, None)
    model: ModelSpec = needed("model", experiment.model, experiment.folders)
    return TraceSource(path, model, experiment.workload.told_apart)


def trace_of(experiment: Experiment) -> RoutingTrace:
    """The experiment's trace, checked, by its ``routing``; an InputError lists what is wrong with
    it.

    Tells what it was read from.
    """
    if not experiment.routing:
        return recorded_trace_of(experiment)
    return transformed_of(experiment).trace


def transformed_of(experiment: Experiment) -> Transformed:
    """The trace by the experiment's ``routing``, and what that loses; an InputError where the trace
    is not of the model, or lacks what a transform reads.
    """
    trace = recorded_trace_of(experiment)
    model: ModelSpec = needed("model", experiment.model, experiment.folders)
    trace.check_fits(_with_room(model, trace.top_k))
    batches = Batches.of(experiment)
    return _transformed(trace, tuple(experiment.routing), _experts(model), batches)


def lost_by_routing(experiment: Experiment) -> dict[str, Any]:
    """What a result says of what ``routing`` loses, and of what the trace had lost before; nothing
    where its tokens choose as recorded.
    """
    before = recorded_trace_of(experiment).metadata.losses
    found = transformed_of(experiment).losses if experiment.routing else before
    if found is None:
        return {}
    if before is not None:
        found = found.noted(before.told, *([] if before.whole else [IN_PART]))
    return found.summary()


def default_trace_of(model: ModelSpec, phase: str) -> RoutingTrace:
    """The trace of a run of ``model`` that names none."""
    name = default_trace(model, phase).name
    path = find_trace(name)
    return _read(TraceSource(path, model if scaled_from(name) else None), stamp(path))[0]


def recorded_trace_of(experiment: Experiment) -> RoutingTrace:
    """The experiment's trace as recorded; else as ``trace_of``."""
    source = _source(experiment)
    if shared := _shared.get().get(source):
        tell("trace", experiment.trace, [shared.file])
        return _map(shared.folder)
    trace, files = _read(source, stamp(source.path))
    tell("trace", experiment.trace, files)
    return trace


def model_of(experiment: Experiment) -> ModelSpec:
    """The experiment's model by its ``routing``: other choices, and fewer experts where some are
    pruned.
    """
    model: ModelSpec = needed("model", experiment.model, experiment.folders)
    if not experiment.routing:
        return model
    found = transformed_of(experiment)
    if not found.changed:
        return _with_room(model, found.trace.top_k)
    return routed(model, found.experts.tolist(), found.trace.top_k)


def varies_of(experiment: Experiment) -> list[bool]:
    """In which MoE layers some tokens take fewer experts than others."""
    found = transformed_of if experiment.routing else recorded_trace_of
    return [bool(one) for one in found(experiment).varies]


def _experts(model: ModelSpec) -> tuple[int, ...]:
    return tuple(layer.moe.experts for layer in model.moe_layers if layer.moe)


def _with_room(model: ModelSpec, top_k: int) -> ModelSpec:
    """``model`` with room for a trace that records ``top_k`` choices, for transforms to choose
    from.
    """
    if all(layer.moe.top_k >= top_k for layer in model.moe_layers if layer.moe):
        return model
    return routed(model, _experts(model), top_k)


@lru_cache(maxsize=4)
def _transformed(
    trace: RoutingTrace,
    transforms: tuple[Transform, ...],
    experts: tuple[int, ...],
    batches: Batches | None,
) -> Transformed:
    """One object for all runs of a sweep, which share what they find about it."""
    passes = None if batches is None else batches.passes(trace)
    return transform(trace, transforms, experts, passes)


def tell_trace(experiment: Experiment) -> None:
    """Tell what ``trace_of`` would, without reading the trace where its digest is known."""
    source = _source(experiment)
    shared = _shared.get().get(source)
    tell("trace", experiment.trace, [shared.file if shared else file_of(source.path)])


@lru_cache(maxsize=2)
def _read(source: TraceSource, stamp: tuple[int, ...]) -> tuple[RoutingTrace, Files]:
    """The trace of ``source`` and its file, read once a process as long as its ``stamp`` stays."""
    from moesim.trace import read_trace

    del stamp
    with files_read() as files:
        trace = _drawn(source.path) if is_drawn(source.path) else read_trace(source.path)
    if source.model is not None:
        from moesim.trace.synthesis.stand_in import stand_in

        name = trace.metadata.model or source.path.stem
        trace = stand_in(source.model, trace, name, source.requests)
    return trace, tuple(files)


def _drawn(parameters: Path) -> RoutingTrace:
    from moesim.trace.synthesis import load_parameters, synthesize

    return synthesize(load_parameters(parameters))


@lru_cache(maxsize=8)
def _map(folder: Path) -> RoutingTrace:
    from moesim.trace.mapped import map_arrays

    return map_arrays(folder)


def write_shared(experiments: Iterable[Experiment], folder: Path) -> dict[TraceSource, SharedTrace]:
    """Write every trace of ``experiments`` as arrays below ``folder``: for ``shared_traces``."""
    from moesim.trace.mapped import write_arrays

    sources = dict.fromkeys(_source(one) for one in experiments)
    shared: dict[TraceSource, SharedTrace] = {}
    for number, source in enumerate(sources):
        trace, (file,) = _read(source, stamp(source.path))
        shared[source] = SharedTrace(folder / f"{number:04d}", file)
        write_arrays(trace, shared[source].folder)
    return shared


@contextmanager
def shared_traces(shared: Mapping[TraceSource, SharedTrace]) -> Iterator[None]:
    """Inside, the traces in ``shared`` are mapped instead of read from their files."""
    before = _shared.set(shared)
    try:
        yield
    finally:
        _shared.reset(before)
