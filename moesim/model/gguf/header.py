"""The header of a GGUF file: metadata and tensors, read without the tensors' content.

The format is that of ggml/docs/gguf.md (MIT). Numbers in a file are checked before they are
believed: nothing is allocated by them, and nothing beyond the header is read.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.config.files.inputs import note_header
from moesim.model.gguf.types import BY_NUMBER

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_KEYS, MOST_TENSORS, MOST_ENTRIES = 1 << 16, 1 << 18, 1 << 24
MOST_DIMENSIONS, MOST_ELEMENTS = 8, 1 << 50
LONGEST = 1 << 29
"""Bytes of a header."""
LONGEST_NAME = 1 << 10
KEPT = 1 << 12
"""Entries of the longest array that is kept; vocabularies are passed over."""
ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True)
class Tensor:
    """A tensor: its shape, the fastest dimension first, the number of its type, its bytes.

    ``offset`` counts from the start of the tensors' part of the file.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    bytes: int = 0

    @property
    def elements(self) -> int:
        """Numbers in it."""
        product = 1
        for size in self.shape:
            product *= size
        return product

    @property
    def type_name(self) -> str:
        """The type as llama.cpp calls it, in small letters."""
        known = BY_NUMBER.get(self.type)
        return known.name if known else f"type {self.type}"


@dataclass(frozen=True)
class Header:
    """What a file says of itself; ``missing_bytes`` that its tensors need and it does not have."""

    path: Path
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]
    missing_bytes: int = 0
    strange: tuple[str, ...] = field(default=())


def is_gguf(path: Path) -> bool:
    """Whether ``path`` is a GGUF file by its name or its first bytes."""
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_header(path: Path) -> Header:
    """The header of one file, which is noted; an InputError where it is none, or is damaged."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise wrong(path, "is no GGUF file: it does not begin with 'GGUF'; name one")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                reader = _Reader(path, content, size)
                header = reader.header()
                note_header(path, content[: reader.place])
                return header
    except OSError as error:
        raise wrong(path, f"cannot be read ({error.strerror})") from error


def wrong(path: Path, what: str, key: str = "") -> InputError:
    """An error about ``path``."""
    return InputError([Problem(str(path), key, what)])


class _Reader:
    """A place in a file, and what is read there."""

    def __init__(self, path: Path, content: mmap.mmap, size: int) -> None:
        self.path, self.content, self.size, self.place = path, content, size, len(MAGIC)

    def header(self) -> Header:
        """Everything before the tensors' content."""
        version = self._number(_U32)
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            what = "a big-endian file" if swapped in VERSIONS else f"GGUF version {version}"
            raise wrong(self.path, f"is {what}; convert it to GGUF 3, little-endian")
        tensors = self._count("tensors", MOST_TENSORS)
        keys = self._count("metadata keys", MOST_KEYS)
        metadata = {}
        for _ in range(keys):
            key = self._name("key")
            metadata[key] = self._value(key)
        return self._with_sizes(metadata, [self._tensor() for _ in range(tensors)])

    def _number(self, one: struct.Struct) -> int:
        return int(self._unpacked(one))

    def _unpacked(self, one: struct.Struct) -> Any:
        place = self.place
        if place + one.size > self.size or place > LONGEST:
            raise self._ended()
        self.place = place + one.size
        return one.unpack_from(self.content, place)[0]

    def _ended(self) -> InputError:
        if self.place > LONGEST:
            return wrong(self.path, f"has a header beyond {LONGEST >> 20} MiB; is it damaged?")
        what = f"ends inside its header, at byte {self.size}; download or copy it again"
        return wrong(self.path, what)

    def _count(self, what: str, most: int) -> int:
        count = self._number(_U64)
        if count > most:
            raise wrong(self.path, f"says that it has {count} {what}; it is damaged")
        return count

    def _text(self) -> str:
        length = self._number(_U64)
        if length > min(self.size - self.place, LONGEST):
            raise self._ended()
        start, self.place = self.place, self.place + length
        return self.content[start : self.place].decode("utf-8", "replace")

    def _name(self, what: str) -> str:
        place, name = self.place, self._text()
        if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
            raise wrong(self.path, f"has a {what} without a name at byte {place}; it is damaged")
        return name

    def _value(self, key: str) -> Any:
        kind = self._number(_U32)
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array(key)
        return self._unpacked(self._scalar(kind, key))

    def _scalar(self, kind: int, key: str) -> struct.Struct:
        if kind not in _SCALARS:
            raise wrong(self.path, f"a value of type {kind} is unknown; it is damaged", key[:80])
        return struct.Struct(_SCALARS[kind])

    def _array(self, key: str) -> list[Any] | None:
        """Its entries; None for a long one, whose place is passed over."""
        kind, count = self._number(_U32), self._number(_U64)
        if count > MOST_ENTRIES:
            raise wrong(self.path, f"says that it has {count} entries; it is damaged", key[:80])
        if kind == _STRING:
            return self._texts(count)
        if kind == _ARRAY:
            raise wrong(self.path, "an array of arrays is unknown; it is damaged", key[:80])
        one = self._scalar(kind, key)
        if count <= KEPT:
            return [self._unpacked(one) for _ in range(count)]
        self.place += count * one.size
        if self.place > self.size:
            raise self._ended()
        return None

    def _texts(self, count: int) -> list[str] | None:
        if count <= KEPT:
            return [self._text() for _ in range(count)]
        place, unpack, content = self.place, _U64.unpack_from, self.content
        try:
            for _ in range(count):
                place += 8 + unpack(content, place)[0]
        except (struct.error, OverflowError):
            raise self._ended() from None
        self.place = place
        return None

    def _tensor(self) -> Tensor:
        name = self._name("tensor")
        dimensions = self._number(_U32)
        if not 0 < dimensions <= MOST_DIMENSIONS:
            what = f"tensor '{name[:80]}' has {dimensions} dimensions; it is damaged"
            raise wrong(self.path, what)
        shape = tuple(self._number(_U64) for _ in range(dimensions))
        kind, offset = self._number(_U32), self._number(_U64)
        tensor = Tensor(name, shape, kind, offset)
        if not 0 < tensor.elements <= MOST_ELEMENTS or min(shape) <= 0:
            shown = " x ".join(map(str, shape))[:80]
            raise wrong(self.path, f"tensor '{name[:80]}' is {shown}; it is damaged")
        return tensor

    def _with_sizes(self, metadata: dict[str, Any], tensors: list[Tensor]) -> Header:
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= LONGEST:
            raise wrong(self.path, f"{alignment!r} is no alignment", "general.alignment")
        names = {tensor.name for tensor in tensors}
        if len(names) < len(tensors):
            raise wrong(self.path, "has two tensors of one name; it is damaged")
        start = -(-self.place // alignment) * alignment
        room = _room(tensors, self.size - start)
        sized = [_sized(tensor, room) for tensor in tensors]
        end = max((tensor.offset + tensor.bytes for tensor in sized), default=0)
        strange = tuple(
            dict.fromkeys(one.type_name for one in tensors if one.type not in BY_NUMBER)
        )
        missing = max(start + end - self.size, 0)
        return Header(self.path, metadata, tuple(sized), missing, strange)


def _room(tensors: list[Tensor], data: int) -> Callable[[Tensor], int]:
    """The bytes from a tensor's start to the next one's, or to the end of the file."""
    starts = sorted({tensor.offset for tensor in tensors})
    following = dict(pairwise([*starts, max(data, *starts[-1:], 0)]))
    return lambda tensor: following[tensor.offset] - tensor.offset


def _sized(tensor: Tensor, room: Callable[[Tensor], int]) -> Tensor:
    """``tensor`` with its bytes; of an unknown type all that is before the next one."""
    known = BY_NUMBER.get(tensor.type)
    rows = tensor.elements // tensor.shape[0]
    size = known.matrix_bytes(rows, tensor.shape[0]) if known else room(tensor)
    return Tensor(tensor.name, tensor.shape, tensor.type, tensor.offset, size)
