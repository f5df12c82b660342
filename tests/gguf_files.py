"""GGUF files for tests, written from the format's description (ggml/docs/gguf.md), header first."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = tuple[str, tuple[int, ...], int, int]
"""Name, shape (fastest dimension first), number of the type, bytes."""


def text(value: str) -> bytes:
    raw = value.encode()
    return len(raw).to_bytes(8, "little") + raw


def typed(value: Any) -> tuple[int, bytes]:
    """The number of a value's type, and its bytes."""
    if isinstance(value, bool):
        return 7, bytes([value])
    if isinstance(value, str):
        return 8, text(value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, int):
        return (4, struct.pack("<I", value)) if value < 2**32 else (10, struct.pack("<Q", value))
    kinds = [typed(entry) for entry in value] or [(4, b"")]
    body = b"".join(raw for _, raw in kinds if raw)
    return 9, struct.pack("<IQ", kinds[0][0], len(value)) + body


def gguf(metadata: Mapping[str, Any], rows: Iterable[Row], version: int = 3) -> bytes:
    """The header of a file with these tensors, one after the other, each at a multiple of 32."""
    listed = list(rows)
    parts = [b"GGUF", struct.pack("<IQQ", version, len(listed), len(metadata))]
    for key, value in metadata.items():
        kind, raw = typed(value)
        parts += [text(key), struct.pack("<I", kind), raw]
    offset = 0
    for name, shape, kind, size in listed:
        sizes = b"".join(side.to_bytes(8, "little") for side in shape)
        parts += [
            text(name),
            struct.pack("<I", len(shape)),
            sizes,
            struct.pack("<IQ", kind, offset),
        ]
        offset += -(-size // 32) * 32
    head = b"".join(parts)
    return head + bytes(-len(head) % 32)


def write(path: Path, metadata: Mapping[str, Any], rows: Iterable[Row]) -> Path:
    """A file whose tensors' content is a hole: as long as it should be, and nearly empty."""
    listed = list(rows)
    head = gguf(metadata, listed)
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + sum(-(-size // 32) * 32 for *_, size in listed))
    return path
