"""One offline HTML file of a result: the answer first, then what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from moesim.config.errors import InputError, Problem
from moesim.results.overwrite import REPORT

if TYPE_CHECKING:
    import pandas as pd

    from moesim.engine.progress import Progress
    from moesim.report.comparison.sides import Side
    from moesim.report.page.content import Page


def write_page(
    folder: Path | str, out: Path | str | None = None, progress: Progress | None = None
) -> Path:
    """Write the page of the result or study in ``folder`` to ``out`` [``report.html`` in it];
    ``progress`` is told how far what is played again for it is.

    Raises an InputError where the folder is none of these, or the file cannot be written.
    """
    from moesim.report.page.render import write

    source = Path(folder)
    target = Path(out) if out else source / REPORT
    _check_name(target)
    write(page_of(source, progress), target)
    return target


def write_unfinished(folder: Path) -> None:
    """Write the page of the sweep that goes on in ``folder``: of what is finished by now."""
    from moesim.report.page.of_sweep import page_so_far
    from moesim.report.page.render import write

    write(page_so_far(folder), folder / REPORT)


def write_comparison(
    first: Side, second: Side, tables: Mapping[str, pd.DataFrame], out: Path
) -> None:
    """Write the page of what ``compare`` found of the two; an InputError as ``write_page``."""
    from moesim.report.page.of_comparison import page_of_comparison
    from moesim.report.page.render import write

    _check_name(out)
    write(page_of_comparison((_name(first), _name(second)), tables), out)


def _name(side: Side) -> str:
    """A folder, or the name of a result's experiment."""
    if hasattr(side, "folder"):
        return str(side.folder)
    return str(side.summary.get("name")) if hasattr(side, "summary") else str(side)


def _check_name(target: Path) -> None:
    if target.suffix.lower() not in (".html", ".htm"):
        what = f"'{target}' is no page; name a file that ends in .html"
        raise InputError([Problem("--out", "", what)])


def page_of(folder: Path, progress: Progress | None = None) -> Page:
    """What the run, the sweep, the advice or the study of several runs in ``folder`` says."""
    from moesim.report.advice.figure import is_advice
    from moesim.results import is_result
    from moesim.sweep.identity import is_sweep

    if is_advice(folder):
        from moesim.report.page.of_advice import page_of_advice

        return page_of_advice(folder)
    if is_sweep(folder):
        from moesim.report.page.of_sweep import page_of_sweep

        return page_of_sweep(folder, progress)
    if is_result(folder):
        from moesim.report.page.of_run import page_of_run

        return page_of_run(folder, progress)
    from moesim.report.page.told import is_told, page_of_told
    from moesim.results.folder import no_folder

    if is_told(folder):
        return page_of_told(folder)
    what = "holds nothing that a page is made of" if folder.is_dir() else no_folder(folder)
    what += "; 'moesim run', 'sweep', 'advise', 'search', 'sensitivity', 'evidence' and"
    what += " 'reproduce' write such folders"
    raise InputError([Problem(str(folder), "", what)])
