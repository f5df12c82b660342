"""``moesim trace import``: find the importer of a recording, read it, check the trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from moesim.config.errors import InputError, Problem, located
from moesim.config.files.files import check_regular
from moesim.config.registry import answering, wrong_answer
from moesim.trace.importers import registry
from moesim.trace.importers.base import Importer
from moesim.trace.lengths import Lengths
from moesim.trace.recording import Recording
from moesim.trace.routing import RoutingTrace
from moesim.trace.validate import findings

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def import_trace(
    path: str | Path,
    *,
    importer: str | None = None,
    model: ModelSpec | None = None,
    top_k: int | None = None,
    prompt_tokens: Lengths | None = None,
    request_tokens: Lengths | None = None,
    source: str | None = None,
    licence: str | None = None,
) -> RoutingTrace:
    """Read a recording in any known format (see ``moesim list importers``).

    ``importer`` names the format instead of recognising it; the other arguments add what the file
    does not say: ``prompt_tokens`` and ``request_tokens`` (of requests that one array joins) are
    one number for all requests or one a request. Raises InputError if the file is unknown, damaged,
    a pickle or not a sound trace, or where lengths do not fit it.
    """
    recording = Recording(Path(path), model, top_k, prompt_tokens, request_tokens)
    with located(recording.path):
        _refuse(recording)
        reader = _importer(recording, importer)
        with answering("", reader):
            trace = reader.read(recording)
        if not isinstance(trace, RoutingTrace):
            raise wrong_answer("", reader, f"gives {type(trace).__name__}, not a RoutingTrace")
        _check(trace, model)
    said = replace(
        trace.metadata,
        source=trace.metadata.source if source is None else source,
        licence=trace.metadata.licence if licence is None else licence,
    )
    return replace(trace, metadata=said)


def _refuse(recording: Recording) -> None:
    path = recording.path
    if not path.exists():
        raise InputError("no such file; name a recording to import")
    if not path.is_dir():
        check_regular(path, "recording")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError("is empty (0 bytes): record it again, or copy it again")
    recording.refuse_pickles()
    if recording.head.startswith(b"PAR1"):
        what = (
            "a trace already, which 'moesim trace validate' looks at, or a table of another program"
        )
        raise InputError(f"is Parquet: {what}{PLAINEST}")


PLAINEST = (
    "; 'moesim list importers' says what each reads, the plainest an npz with expert_ids"
    " [tokens, MoE layers, top_k]"
)


def _importer(recording: Recording, kind: str | None) -> Importer:
    if kind is not None:
        return registry.get(kind, "--importer")()
    importers = [component() for component in registry.components.values()]
    fitting = [importer for importer in importers if _recognises(importer, recording)]
    if len(fitting) == 1:
        return fitting[0]
    kinds = ", ".join(str(kind) for kind in registry.components)
    if not fitting:
        what = f"holds {sorted(recording.names)}, " if recording.names else ""
        raise InputError(f"{what}not a known format; importers: {kinds}{PLAINEST}")
    names = ", ".join(type(importer).__name__ for importer in fitting)
    raise InputError(f"fits several formats ({names}); name one with --importer: {kinds}")


def _recognises(importer: Importer, recording: Recording) -> bool:
    with answering("", importer):
        return importer.recognises(recording)


def _check(trace: RoutingTrace, model: ModelSpec | None) -> None:
    if model is not None and (what := trace.misfit(model)) is not None:
        remedy = "name the one that it was recorded from"
        raise InputError([Problem("", "--model", f"the recording {what}; {remedy}")])
    fatal = [Problem("", found.column, found.what) for found in findings(trace) if found.fatal]
    if fatal:
        raise InputError(fatal)
