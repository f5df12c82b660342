"""Where files named in a configuration are looked up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from moesim.config.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[2]


def shipped_folder() -> Path:
    """The folder that holds ``traces/`` and ``hardware_profiles/``: in a wheel ``moesim/data``,
    else the source checkout.
    """
    packed = _PACKAGE / "data"
    return packed if packed.is_dir() else _PACKAGE.parent


def lookup_folders(source: Path | str | None = None) -> tuple[Path, ...]:
    """The folders for a configuration file ``source``: its own, the working directory, the
    shipped data.
    """
    own = [] if source is None else [Path(source).resolve().parent]
    return tuple(dict.fromkeys([*own, Path.cwd(), shipped_folder()]))


def expanded(path: Path | str) -> Path:
    """``path`` with the home folder in place of ``~``; as it is where there is no such user."""
    try:
        return Path(path).expanduser() if str(path).startswith("~") else Path(path)
    except RuntimeError:
        return Path(path)


def look_up(path: Path | str, folders: Sequence[Path] = ()) -> Path | None:
    """The first existing ``folder / path`` over ``folders`` (an absolute path, or ``~``:
    itself), or None.

    Without ``folders``: the working directory, then the shipped data.
    """
    wanted = expanded(path)
    for folder in folders or lookup_folders():
        try:
            if (folder / wanted).exists():
                return folder / wanted
        except (OSError, ValueError):
            return None
    return None


def find(path: Path | str, folders: Sequence[Path] = ()) -> Path:
    """Like ``look_up``, but an InputError that names the folders where there is none."""
    found = look_up(path, folders)
    if found is None:
        raise InputError(not_found(path, folders or lookup_folders()))
    return found


def not_found(path: Path | str, folders: Iterable[Path]) -> str:
    """The message for a ``path`` that is in none of ``folders``."""
    if Path(path).is_absolute():
        return f"there is no file '{path}'"
    return f"there is no file '{path}'; looked in {', '.join(map(str, folders))}"
