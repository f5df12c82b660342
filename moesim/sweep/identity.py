"""What a sweep's folder holds, so that it never mixes two experiments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.config.files.inputs import Inputs, labelled
from moesim.config.json_text import read_object
from moesim.results.files import plain, write_json
from moesim.results.provenance import installed, source_digest
from moesim.results.shape import SweepFile, check_shape

SWEEP = "sweep.json"
ABSENT = "nothing"
CONTENTS = {"inputs": "its content", "sources": "moesim's own code"}
"""What of a folder is known by its digest alone."""


def identity(
    experiment: Mapping[str, Any], axes: Sequence[Mapping[str, Any]], inputs: Inputs
) -> dict[str, Any]:
    """All that decides a sweep's numbers: the experiment, the points' axes, the content of what
    they read and of moesim.
    """
    content = {
        "moesim": installed("moesim"),
        "sources": source_digest(),
        "experiment": plain(experiment),
        "points": plain(axes),
        "inputs": {label: file.sha256 for label, file in labelled(inputs, names=True).items()},
    }
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return {**content, "digest": hashlib.sha256(text.encode()).hexdigest()}


def claim(folder: Path, new: Mapping[str, Any]) -> None:
    """Mark ``folder`` as the sweep ``new``; an InputError names what differs from one in it."""
    path = folder / SWEEP
    if not path.exists():
        write_json(path, new)
        return
    old = read_object(path)
    if old.get("digest") == new["digest"]:
        return
    problems = [
        Problem(str(folder), where, _difference(where, theirs, ours))
        for where, theirs, ours in differences(old, new)
        if where != "digest"
    ]
    remedy = "the folder holds another sweep; name a new folder, or undo the change"
    remedy += " (moesim sweep and advise also begin anew, with --overwrite)"
    raise InputError([*problems[:10], Problem(str(folder), "", remedy)])


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """``(path, old value, new value)`` of every leaf in which two plain values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(
                old.get(key, ABSENT), new.get(key, ABSENT), f"{path}.{key}" if path else str(key)
            )
    elif old != new:
        yield path, old, new


def read_axes(folder: Path) -> list[dict[str, Any]]:
    """The axes of each point of the sweep in ``folder``, in order."""
    points: list[dict[str, Any]] = read_sweep_file(folder)["points"]
    return points


def read_sweep_file(folder: Path) -> dict[str, Any]:
    """What ``sweep.json`` of the sweep in ``folder`` says; an InputError where it is damaged."""
    content = read_object(folder / SWEEP)
    check_shape(content, SweepFile, str(folder / SWEEP))
    return content


def is_sweep(folder: Path | str) -> bool:
    """Whether ``folder`` holds a sweep."""
    return (Path(folder) / SWEEP).is_file()


def _difference(where: str, theirs: Any, ours: Any) -> str:
    content = CONTENTS.get(where.partition(".")[0])
    if content and ABSENT not in (theirs, ours):
        return f"{content} has changed (SHA-256 {ours[:12]}... now, {theirs[:12]}... then)"
    return f"{_short(ours)} now, {_short(theirs)} in this folder"


def _short(value: Any, width: int = 60) -> str:
    text = str(value) if value == ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else text[: width - 3] + "..."
