"""Arrays of a safetensors file: 8 bytes of length, a JSON header, then the numbers.

The format is that of github.com/huggingface/safetensors (docs, "Format"); integers only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.files.files import read_file
from moesim.trace.assemble import wrong

_LENGTH = 8
_TYPES = {
    "I8": "<i1", "U8": "<u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8",
    "U64": "<u8",
}  # fmt: skip


def begins(head: bytes) -> bool:
    """Whether ``head`` looks like the beginning of such a file."""
    length = int.from_bytes(head[:_LENGTH], "little")
    return len(head) > _LENGTH and 1 < length < 1 << 32 and head[_LENGTH : _LENGTH + 1] == b"{"


def integer_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of ``path`` by name; an InputError where it is damaged or holds other types."""
    content = read_file(path, "recording")
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    try:
        header = json.loads(content[_LENGTH:end].decode())
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or end > len(content):
        raise wrong(path.name, "has no header as safetensors have; copy it again")
    header.pop("__metadata__", None)
    return {name: _array(name, about, content[end:]) for name, about in header.items()}


def _array(name: str, about: Any, content: bytes) -> NDArray[Any]:
    try:
        dtype, shape = about["dtype"], [int(axis) for axis in about["shape"]]
        start, end = (int(offset) for offset in about["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise wrong(name, f"is described as {about!r:.60}: the header is damaged") from None
    if dtype not in _TYPES:
        raise wrong(name, f"holds {dtype!r:.20}: expert ids and counts are integers")
    if not 0 <= start <= end <= len(content) or min(shape, default=0) < 0:
        what = f"lies from {start} to {end} of {len(content)} bytes: is the file cut off?"
        raise wrong(name, what)
    array = np.frombuffer(content[start:end], np.uint8)
    if len(array) != np.dtype(_TYPES[dtype]).itemsize * int(np.prod(shape, dtype=object)):
        raise wrong(name, f"has {len(array)} bytes, which are not {dtype}{shape}: copy it again")
    return array.view(_TYPES[dtype]).reshape(shape)
