"""Folders that moesim wrote, and nobody else wrote to, can be written anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from moesim.config.errors import InputError, Problem
from moesim.config.files import TEMPORARY
from moesim.results.files import check_new_folder, unwritable
from moesim.results.result import TABLES

FIGURES = tuple(f"figures/*.{suffix}" for suffix in ("png", "svg", "pdf", "csv"))
REPORT = "report.html"
TOLD = "report.json"
"""What a study of several runs says, of which a page is made."""
RESULT = (
    "summary.json", "provenance.json", "experiment.yaml", REPORT,
    *(f"{table}.parquet" for table in TABLES), *FIGURES,
)  # fmt: skip
SWEEP = (
    "sweep.json", "finished.jsonl", "points.csv", "points.parquet", "packs/*.pack",
    f"{TEMPORARY}*", REPORT, ".lock", ".lock-workers", *FIGURES,
    *(f"points/*/{name}" for name in RESULT),
)  # fmt: skip
ADVICE = (
    "advice.json", "advice.png", "experiment.yaml", REPORT, "hardware/*.yaml", *FIGURES,
    *(f"{part}/{name}" for part in ("choices", "upgrades", "ranges") for name in SWEEP),
)  # fmt: skip
KINDS = {"provenance.json": RESULT, "sweep.json": SWEEP, "choices/sweep.json": ADVICE}
"""What is in a folder of each kind, by the file that tells the kind."""


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """An InputError unless ``folder`` is new or empty; with ``overwrite`` also one that moesim
    wrote.
    """
    (check_replaceable if overwrite else check_new_folder)(folder)


def check_replaceable(folder: Path) -> None:
    """An InputError unless ``folder`` is new, empty, or holds only what moesim wrote."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise _kept(folder, "is no folder that moesim wrote")
    if not any(folder.iterdir()):
        return
    kinds = [names for mark, names in KINDS.items() if (folder / mark).is_file()]
    if not kinds:
        raise _kept(folder, "holds files but no result of moesim")
    if (other := next(_foreign(folder, kinds[0]), None)) is not None:
        raise _kept(folder, f"also holds '{other}', which moesim did not write")


def check_no_input(folder: Path, inputs: Iterable[Path]) -> None:
    """An InputError where one of ``inputs`` lies in ``folder``, which is to be replaced."""
    whole = folder.resolve()
    for path in inputs:
        if whole in path.resolve().parents:
            raise _kept(folder, f"holds '{path}', which is read")


def clear(folder: Path) -> None:
    """Empty ``folder``, which ``check_replaceable`` has passed, but for the locks of a sweep."""
    try:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.startswith(".lock"):
                path.unlink()
    except OSError as error:
        raise unwritable(folder, error) from error


def _foreign(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """What is in ``folder`` beside files of these ``names``."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if path.is_symlink() or not (path.is_dir() or _named(inside, names)):
            yield inside


def _named(path: Path, names: tuple[str, ...]) -> bool:
    """Whether a pattern fits, part by part."""
    return any(
        len(parts) == len(path.parts) and all(map(fnmatchcase, path.parts, parts))
        for parts in (name.split("/") for name in names)
    ) or any(part.startswith(TEMPORARY) for part in path.parts)


def _kept(folder: Path, what: str) -> InputError:
    remedy = "--overwrite leaves it as it is; name another folder, or remove it yourself"
    return InputError([Problem("--out", "", f"'{folder}' {what}; {remedy}")])
