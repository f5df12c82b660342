"""A trace as plain arrays on disk, which processes map instead of each decoding Parquet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.trace.losses import encode_losses
from moesim.trace.metadata import decode_metadata, encode_metadata
from moesim.trace.routing import RoutingTrace

METADATA, LOSSES = "metadata.json", "losses.json"
NEEDED = ("expert_ids", "request_id", "position", "phase")
OPTIONAL = ("gate_weights", "predicted_ids")


def write_arrays(trace: RoutingTrace, folder: Path) -> None:
    """Write ``trace`` to the new ``folder``, a file an array: it appears whole or not at all."""
    temporary = folder.with_name(f".writing-{os.getpid()}-{folder.name}")
    try:
        temporary.mkdir(parents=True)
        for name in (*NEEDED, *OPTIONAL):
            if (array := getattr(trace, name)) is not None:
                np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        (temporary / METADATA).write_bytes(encode_metadata(trace.metadata))
        if (losses := trace.metadata.losses) is not None:
            (temporary / LOSSES).write_bytes(encode_losses(losses))
        temporary.rename(folder)
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise InputError([Problem(str(folder), "", what)]) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def map_arrays(folder: Path) -> RoutingTrace:
    """The trace in ``folder``, mapped: its pages are read when they are used, and shared by all
    processes.

    What ``write_arrays`` wrote was checked before, so its content is not looked at.
    """
    arrays: dict[str, Any] = {name: _mapped(folder / f"{name}.npy") for name in NEEDED}
    files = {name: folder / f"{name}.npy" for name in OPTIONAL}
    arrays |= {name: _mapped(path) if path.exists() else None for name, path in files.items()}
    losses = folder / LOSSES
    lost = losses.read_bytes() if losses.exists() else None
    return RoutingTrace(**arrays, metadata=decode_metadata((folder / METADATA).read_bytes(), lost))


def _mapped(path: Path) -> NDArray[Any]:
    # compiled loops take no read-only arrays; a write would stay in this process
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
