"""What every importer of traces keeps."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from moesim.config.errors import InputError
from moesim.config.files.files import write_whole
from moesim.trace import NO_EXPERT, RoutingTrace, read_trace, write_trace
from moesim.trace.importers.base import Importer
from moesim.trace.recording import Recording
from moesim.trace.validate import findings

COLUMNS = ("expert_ids", "request_id", "position", "phase", "gate_weights", "predicted_ids")
STRANGE = (b"", b"\x00" * 64, b"{}", b"[1, 2]", b"a,b\n1,2\n", b"PK\x03\x04", b"\x93NUMPY\x01\x00")


def reads_a_sound_trace(importer: Importer, path: Path, **said: Any) -> RoutingTrace:
    """The recording at ``path`` is recognised and becomes a trace without findings that Parquet
    keeps as it is. ``said``: what else a ``Recording`` is told. Returns the trace.
    """
    recording, name = Recording(path, **said), type(importer).__name__
    assert importer.recognises(recording), f"{name} does not recognise {path.name}"
    trace = importer.read(recording)
    assert not (found := findings(trace)), f"{name}: {[one.what for one in found]}"
    ids = trace.expert_ids
    assert ids.dtype == np.uint16, f"{name}: expert ids are {ids.dtype}"
    assert ids.flags.c_contiguous, f"{name}: expert ids are not contiguous"
    assert (ids[ids != NO_EXPERT] < trace.experts).all(), f"{name}: ids beyond the experts"
    assert trace.metadata.recorder, f"{name} does not say what recorded the trace"
    with TemporaryDirectory() as folder:
        write_trace(trace, Path(folder) / "t.parquet")
        _assert_same(name, trace, read_trace(Path(folder) / "t.parquet"))
    return trace


def recognises_without_an_error(importer: Importer, path: Path) -> None:
    """Other files, and beginnings of ``path``, are recognised or not, without an error but the
    InputError of a ``Recording`` that is damaged.
    """
    whole = path.read_bytes()
    parts = [whole[: len(whole) * share // 8] for share in range(8)]
    with TemporaryDirectory() as folder:
        for number, content in enumerate((*STRANGE, *parts)):
            other = Path(folder) / f"{number}{path.suffix}"
            write_whole(other, content)
            with suppress(InputError):
                found = importer.recognises(Recording(other))
                assert isinstance(found, bool), f"{type(importer).__name__} says {found!r}"


def refuses_what_is_damaged(importer: Importer, path: Path, **said: Any) -> None:
    """Of two thirds of the file it makes an InputError, or a sound trace of what is whole."""
    whole = path.read_bytes()
    with TemporaryDirectory() as folder:
        damaged = Path(folder) / path.name
        write_whole(damaged, whole[: 2 * len(whole) // 3])
        try:
            trace = importer.read(Recording(damaged, **said))
        except InputError:
            return
        fatal = [one.what for one in findings(trace) if one.fatal]
        assert not fatal, f"{type(importer).__name__} makes a damaged file a trace: {fatal}"


def _assert_same(name: str, one: RoutingTrace, other: RoutingTrace) -> None:
    assert one.metadata == other.metadata, f"{name}: Parquet changes the metadata"
    for column in COLUMNS:
        before, after = getattr(one, column), getattr(other, column)
        assert (before is None) == (after is None), f"{name}: Parquet loses '{column}'"
        if before is not None:
            assert before.dtype == after.dtype, f"{name}: '{column}' is {before.dtype}"
            assert np.array_equal(before, after), f"{name}: Parquet changes '{column}'"
