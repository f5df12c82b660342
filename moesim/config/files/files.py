"""Files from outside, read only where they are plain files; and files that are there whole or not
at all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from moesim.config.errors import InputError, Problem, writing

TEMPORARY = ".writing-"
"""How the name of a file or folder begins that is still being written."""
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(path: Path | str, what: str = "file") -> None:
    """An InputError unless ``path`` is a plain file: a pipe or a device might never end.

    ``what`` is what the remedy asks for, as in ``YAML file``.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        raise _unusable(path, "there is no such file") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(mode):
        raise _unusable(path, f"is {_kind(mode)}; name the {what}")


def read_file(path: Path | str, what: str = "file") -> bytes:
    """The bytes of the plain file ``path``; errors as ``check_regular``, or it cannot be read."""
    check_regular(path, what)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


@contextmanager
def replacing(path: Path, option: str = "--out") -> Iterator[Path]:
    """A file beside ``path``, with its suffix, for the caller to write: in the end it takes the
    place of ``path``, or vanishes. Other processes see the old file or the new one.

    Missing folders are made; a file that is replaced leaves its mode, a link stays one. InputError,
    which names ``option``: ``path`` cannot be written, or is no plain file.
    """
    with writing(path, option):
        target = path.resolve()
        mode = _mode(target, path, option)
        temporary = target.with_name(f"{TEMPORARY}{uuid4().hex}{target.suffix}")
        try:
            yield temporary
            _flush(temporary)
            if mode is not None:
                temporary.chmod(mode)
            temporary.replace(target)
        finally:
            with suppress(OSError):
                temporary.unlink()


def write_whole(path: Path, content: str | bytes, option: str = "--out") -> None:
    """Write ``content`` (text: as UTF-8) to ``path`` in one go; errors as ``replacing``."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, option) as temporary:
        temporary.write_bytes(data)


def _mode(target: Path, path: Path, option: str) -> int | None:
    """The mode of the file to replace; None where there is none."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        what = f"'{path}' is {_kind(mode)}; name a file to write"
        raise InputError([Problem(option, "", what)])
    if not os.access(target, os.W_OK):
        raise PermissionError(13, "Permission denied")
    return stat.S_IMODE(mode)


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "no plain file")


def _unreadable(path: Path | str, error: OSError | ValueError) -> InputError:
    return _unusable(path, f"cannot be read ({getattr(error, 'strerror', None) or error})")


def _unusable(path: Path | str, what: str) -> InputError:
    return InputError([Problem(str(path), "", what)])
