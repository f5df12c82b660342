"""Folders that moesim wrote, and nobody else wrote to, can be written anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from moesim.config.errors import InputError, Problem
from moesim.config.files.files import TEMPORARY
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
    "sweep.json", "experiment.yaml", "finished.jsonl", "points.csv", "points.parquet",
    "packs/*.pack",
    f"{TEMPORARY}*", REPORT, ".lock", ".lock-workers", *FIGURES,
    *(f"points/*/{name}" for name in RESULT),
)  # fmt: skip
SWEEPS = ("layouts", "choices", "best", "rebalancing", "upgrades", "ranges", "ends")
"""The folders of an advice with runs in them."""
ADVICE = (
    "advice.json", "advice.png", "experiment.yaml", REPORT, "hardware/*.yaml", *FIGURES,
    *(f"{part}/{name}" for part in SWEEPS for name in SWEEP),
)  # fmt: skip
BEFORE, MOVING = ".before", ".before-moving"
"""The folder, in one that is begun anew, of what it held, which goes once the new is complete; and
its name until all is in it.
"""
KINDS = {
    "provenance.json": RESULT, "sweep.json": SWEEP, "layouts/sweep.json": ADVICE,
    "choices/sweep.json": ADVICE,
}  # fmt: skip
"""What is in a folder of each kind, by the file that tells the kind."""
EVERY = (*RESULT, *SWEEP, *ADVICE)


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """An InputError unless ``folder`` is new or empty; with ``overwrite`` also where it holds a
    run: one run replaces no study of several.
    """
    if not overwrite:
        check_new_folder(folder)
        return
    check_replaceable(folder)
    if any((folder / mark).exists() for mark in (*KINDS, BEFORE) if KINDS.get(mark) is not RESULT):
        raise _kept(folder, "holds a study of several runs, which one run would replace")


def check_replaceable(folder: Path) -> None:
    """An InputError unless ``folder`` is new, empty, or holds only what moesim wrote."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise _kept(folder, "is no folder that moesim wrote")
    if not any(folder.iterdir()):
        return
    kinds = [names for mark, names in KINDS.items() if (folder / mark).is_file()]
    kinds += [EVERY] if any((folder / name).is_dir() for name in (BEFORE, MOVING)) else []
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


def set_aside(folder: Path) -> None:
    """Move what is in ``folder``, which ``check_replaceable`` has passed, to ``BEFORE`` in it, but
    for the locks of a sweep. What is there already stays: what began anew since is not complete,
    and is removed.
    """
    before, moving = folder / BEFORE, folder / MOVING
    try:
        inside = [one for one in folder.iterdir() if not one.name.startswith((".lock", BEFORE))]
        if before.is_dir():
            _remove(inside)
        elif inside or moving.is_dir():
            moving.mkdir(exist_ok=True)  # of one that was killed in between, the rest follows
            for path in sorted(inside, key=lambda one: one.name not in KINDS):
                path.rename(moving / path.name)
            moving.rename(before)
    except OSError as error:
        raise unwritable(folder, error) from error


def drop_before(folder: Path) -> None:
    """Remove what ``set_aside`` kept in ``folder``."""
    if (folder / BEFORE).is_dir():
        shutil.rmtree(folder / BEFORE)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _foreign(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """What is in ``folder`` beside files of these ``names``, and of any kind in ``BEFORE``."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        own, old = inside, inside.parts[0] in (BEFORE, MOVING)
        if old and len(inside.parts) > 1:
            own = inside.relative_to(inside.parts[0])
        if path.is_symlink() or not (path.is_dir() or _named(own, EVERY if old else names)):
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
