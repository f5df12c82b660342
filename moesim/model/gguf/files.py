"""The files of one model: a single one, or all parts of a split one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moesim.model.gguf.header import Header, read_header, wrong

_PART = re.compile(
    r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<end>\.gguf)$", re.IGNORECASE
)
MOST_PARTS = 1000
_TOWER = "mmproj"


def model_name(path: Path) -> str:
    """What a file's model is called: without the number of its part."""
    part = _PART.match(path.name)
    return part["stem"] if part else path.stem


def in_folder(folder: Path) -> Path | None:
    """The GGUF model in ``folder``, the first part of a split one; None without any. Towers for
    images (mmproj) are none. InputError where there are several.
    """
    files = sorted(folder.glob("*.gguf"), reverse=True)
    models = {model_name(path): path for path in files if not path.name.startswith(_TOWER)}
    if len(models) > 1:
        raise wrong(folder, f"holds the models {', '.join(sorted(models)[:4])}; name one file")
    return next(iter(models.values()), None)


def headers_of(path: Path) -> list[Header]:
    """The headers of all files of the model of which ``path`` is one, in order.

    InputError where a part is missing, or does not belong to the others.
    """
    headers = [read_header(part) for part in _parts(path)]
    _check_split(path, headers)
    return headers


def _parts(path: Path) -> list[Path]:
    part = _PART.match(path.name)
    if part is None:
        return [path]
    count = int(part["count"])
    if not 0 < int(part["number"]) <= count <= MOST_PARTS:
        raise wrong(path, f"is named part {int(part['number'])} of {count}; restore its name")
    named = [f"{part['stem']}-{i:05d}-of-{count:05d}{part['end']}" for i in range(1, count + 1)]
    parts = [path.with_name(name) for name in named]
    absent = [one for one in parts if not one.is_file()]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        what = f"of {count} parts '{absent[0].name}'{more} is missing; put all in one folder"
        raise wrong(path, what)
    return parts


def _check_split(path: Path, headers: Sequence[Header]) -> None:
    said = headers[0].metadata.get("split.count", 0)
    if said and said != len(headers):
        what = f"is part of {said} files, but its name is of {len(headers)}; restore their names"
        raise wrong(path, what, "split.count")
    tensors: Any = headers[0].metadata.get("split.tensors.count", 0)
    found = sum(len(header.tensors) for header in headers)
    if tensors and tensors != found:
        raise wrong(path, f"its parts hold {found} of {tensors} tensors", "split.tensors.count")
