"""A recording to import: its file, and what the user adds to it."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError
from moesim.config.files.files import check_regular
from moesim.trace.lengths import Lengths

if TYPE_CHECKING:
    from moesim.model import ModelSpec

_UNREADABLE = (
    ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError,
    TokenError, TypeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise for a damaged file: a header is read as a Python literal."""
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
_PICKLE_REMEDY = (
    "is a pickle, which can run code when opened, and is never opened: save the arrays with"
    " numpy.savez (an object array: split it into plain ones first)"
)


@dataclass(frozen=True)
class Recording:
    """A file or folder that an importer reads.

    ``model`` tells the MoE layers and experts where the file does not; ``top_k`` the experts a
    token uses (router logits); positions below ``prompt_tokens`` are a request's prompt;
    ``request_tokens`` are those of the requests that one array joins.
    """

    path: Path
    model: ModelSpec | None = None
    top_k: int | None = None
    prompt_tokens: Lengths | None = None
    request_tokens: Lengths | None = None

    @cached_property
    def head(self) -> bytes:
        """The first bytes of the file; none for a folder."""
        if self.path.is_dir():
            return b""
        with self.path.open("rb") as file:
            return file.read(4096)

    @property
    def is_npz(self) -> bool:
        """Whether the file is a zip, as numpy.savez writes."""
        return self.head.startswith(b"PK\x03\x04")

    @property
    def is_npy(self) -> bool:
        """Whether the file is one array, as numpy.save writes."""
        return self.head.startswith(b"\x93NUMPY")

    @cached_property
    def names(self) -> frozenset[str]:
        """The arrays of an npz file; empty for other files."""
        if not self.is_npz:
            return frozenset()
        try:
            with zipfile.ZipFile(self.path) as file:
                return frozenset(name.removesuffix(".npy") for name in file.namelist())
        except _UNREADABLE as error:
            raise InputError(f"damaged npz file ({error}); copy it again") from None

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of an npz file by name, of a npy file or a folder of them by file name."""
        if self.path.is_dir():
            return {file.stem: load_array(file) for file in sorted(self.path.glob("*.npy"))}
        if self.is_npy:
            return {self.path.stem: load_array(self.path)}
        return _load_npz(self.path)

    def refuse_pickles(self) -> None:
        """Raise an InputError if the file is a pickle, by name or by content."""
        named = self.path.suffix.lower() in _PICKLE_SUFFIXES
        begins = self.head[:1] == b"\x80" and self.head[1:2] in b"\x02\x03\x04\x05"
        if named or begins or any(name.endswith("data.pkl") for name in self.names):
            raise InputError(_PICKLE_REMEDY)


def load_array(path: Path) -> NDArray[Any]:
    """The array of a npy file; an InputError if it is damaged or holds Python objects."""
    check_regular(path, "recording")
    return array_of(path, path.name)


def array_of(file: Path | BytesIO, name: str) -> NDArray[Any]:
    """The array of a npy ``file``, which messages call ``name``; as ``load_array``."""
    try:
        return np.asarray(np.load(file, allow_pickle=False))
    except _UNREADABLE as error:
        raise _unreadable(name, error) from None


def _load_npz(path: Path) -> dict[str, NDArray[Any]]:
    name = path.name
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                arrays[name] = np.asarray(file[name])
    except _UNREADABLE as error:
        raise _unreadable(name, error) from None
    return arrays


def _unreadable(name: str, error: Exception) -> InputError:
    if "allow_pickle" in str(error):
        return InputError(f"array '{name}' {_PICKLE_REMEDY}")
    reason = (str(error) or type(error).__name__).splitlines()[0][:160]
    return InputError(f"array '{name}' is not readable as numpy ({reason}); save it again")
