"""The shipped traces, by the names of the models that they were recorded from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moesim.config.errors import InputError, nearest
from moesim.config.files.paths import find, look_up, shipped_folder
from moesim.config.files.shipped import stems
from moesim.config.names import known_name

_OTHER_FILES = {"gpt-oss-20b": "quickstart"}
"""Models whose trace has a file of another name."""

STAND_IN = "stand-in:"
"""Before the name of a shipped trace: one drawn for the experiment's model, scaled from it."""


def card_names() -> list[str]:
    """The names of the shipped traces, sorted: those of models, and of files."""
    return sorted({*stems(shipped_folder() / "traces", ".parquet"), *_OTHER_FILES})


def trace_card(name: str) -> Path | None:
    """The shipped trace ``name``, read as ``config.names`` says; None where there is none."""
    if (known := known_name(name, card_names())) is None:
        return None
    return shipped_folder() / "traces" / f"{_OTHER_FILES.get(known, known)}.parquet"


def scaled_from(name: str) -> str | None:
    """The shipped trace that the stand-in ``name`` is scaled from; None where it is none."""
    return name.removeprefix(STAND_IN) if name.startswith(STAND_IN) else None


def is_drawn(trace: Path | str) -> bool:
    """Whether ``trace`` names parameters (YAML), from which a synthetic trace is drawn."""
    return Path(trace).suffix in (".yaml", ".yml")


def is_ones_own(name: str) -> bool:
    """Whether the trace ``name`` is a recording that is not shipped: of its user's own text."""
    if scaled_from(name) is not None or is_drawn(name):
        return False
    found = look_up_trace(name)
    return found is None or found.resolve().parent != (shipped_folder() / "traces").resolve()


def look_up_trace(name: str, folders: Sequence[Path] = ()) -> Path | None:
    """The shipped trace ``name``, or that which a stand-in is scaled from, else the file of that
    path in ``folders``, or None.
    """
    if (recorded := scaled_from(name)) is not None:
        return trace_card(recorded)
    return trace_card(name) or look_up(name, folders)


def no_card(recorded: str) -> str:
    """What to say of a stand-in scaled from ``recorded`` where that is not shipped."""
    return f"there is no shipped trace '{recorded}' to scale; {nearest(recorded, card_names())}"


def find_trace(name: str, folders: Sequence[Path] = ()) -> Path:
    """Like ``look_up_trace``, but an InputError that names the folders where there is none."""
    recorded = scaled_from(name)
    if recorded is not None and trace_card(recorded) is None:
        raise InputError(no_card(recorded))
    return look_up_trace(name, folders) or find(name, folders)
