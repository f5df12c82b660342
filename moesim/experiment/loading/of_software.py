"""The scheduler of the engine whose software an experiment names, where it names none itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moesim.config.checking.shape import Shape
from moesim.config.document import DEFAULT, Document, Mark, Steps
from moesim.experiment.loading.names import loaded
from moesim.experiment.schema.experiment import Experiment
from moesim.workload.serving import registry as schedulers

SCHEDULER: Steps = ("workload", "batching", "scheduler")
SERVED, LLAMA = "continuous", "llama.cpp"
"""A kind of batching, and an engine whose profiles say nothing of a framework."""


def scheduler_of(software: str, folders: tuple[Path, ...]) -> str | None:
    """The scheduler that is of ``software``; None where none is, or there is no such software."""
    found = loaded("software", software, folders)
    engine = LLAMA if LLAMA in software else found and found.framework
    return engine if engine in schedulers.components else None


def with_scheduler(document: Document, folders: tuple[Path, ...]) -> Document:
    """``document`` with its software's own scheduler, where requests are served, no kind of
    scheduler is written and the keys that are written are that one's too.
    """
    if document.get((*SCHEDULER[:2], "kind")) != SERVED or not _is_open(document):
        return document
    software = document.get(("software",), Experiment.model_fields["software"].default)
    engine = scheduler_of(software, folders) if isinstance(software, str) else None
    written = document.get(SCHEDULER)
    if engine is None or not isinstance(written, Mapping | None):
        return document
    if not {*(written or ())} <= {*Shape(schedulers.components[engine]).fields}:
        return document
    return document.with_value((*SCHEDULER, "kind"), engine, Mark(f"{DEFAULT} of {software}"))


def _is_open(document: Document) -> bool:
    """Whether the kind of scheduler is nobody's choice."""
    kind = (*SCHEDULER, "kind")
    return not document.has(kind) or document.value_mark(kind).origin == DEFAULT
