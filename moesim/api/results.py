"""What is made of results: comparisons, figures, pages and timelines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moesim.api.given import folder_of
from moesim.config.arguments import check_out
from moesim.config.warn import Warn, as_warning

if TYPE_CHECKING:
    import pandas as pd

    from moesim.engine.progress import Progress
    from moesim.report.plot import Kind
    from moesim.results import Result
    from moesim.sweep.found import Sweep


def compare(
    first: Path | str | Result | Sweep,
    second: Path | str | Result | Sweep,
    *,
    out: Path | str | None = None,
) -> dict[str, pd.DataFrame]:
    """What differs between two runs, or two sweeps: their folders, or what they returned.

    Tables by name. ``configuration``: ``key``, ``first``, ``second``. Of runs: ``results`` with
    ``ratio`` (second over first), ``time_share`` and ``price_share`` with ``points`` (percent of
    the time, second less first), ``time_per_token`` (ms by cause, with ``difference``), and
    ``differences`` with 95 % intervals, in percent. Of sweeps: ``points``, those with equal
    values on the axes that both have, and ``alone``, how many have no partner. ``out``: write
    them as one page, too (.html): what changed, and why. Raises an InputError where a folder is
    no result, or the two are not of one kind.

    >>> moesim.compare("results/lru", "results/lfu")["results"]
    """
    from moesim.report.comparison.sides import compare as compared

    check_out(out)
    tables = compared(first, second)
    if out is not None:
        from moesim.report.page import write_comparison

        write_comparison(first, second, tables, Path(out))
    return tables


def plot(
    folder: Path | str | Sweep,
    figures: Sequence[Kind] = (),
    *,
    out: Path | str | None = None,
    formats: Sequence[str] = ("png", "svg"),
    size: tuple[float, float] | str | None = None,
    allow_drops: bool = False,
    warn: Warn = as_warning,
) -> list[Path]:
    """Draw figures of the run, the sweep or the advice in ``folder``, each with its table (CSV)
    beside it; the files written.

    ``figures``: names (``moesim list figures``), or mappings with parameters as in an experiment
    (``{"kind": "metric_over_axis", "metric": "mean_tpot_ms", "over": "capacity"}``); without any
    those that the experiment names, else all that apply. ``out`` [``figures`` in the folder];
    ``formats``: of png, svg, pdf; ``size`` of the whole picture in inches, as ``(3.3, 2.5)``;
    ``allow_drops``: let points that drop or skip choices be the best. ``warn`` is told of each
    figure that does not apply. Raises an InputError for an unknown figure, and where none can be
    drawn.

    >>> moesim.plot("results/all", ["throughput_vs_capacity"], formats=["pdf"])
    """
    from moesim.report.plot import plot as draw

    check_out(out)
    return draw(
        folder_of(folder), figures, out=out, formats=formats, size=size, allow_drops=allow_drops,
        warn=warn,
    )  # fmt: skip


def write_report(
    folder: Path | str | Sweep,
    out: Path | str | None = None,
    *,
    progress: Progress | None = None,
) -> Path:
    """Write the result in ``folder`` (of ``run``, ``sweep``, ``advise``, ``search``,
    ``sensitivity``, ``evidence`` or ``moesim reproduce``) as one page, an HTML file that asks for
    nothing from anywhere, to ``out`` [``report.html`` in the folder]; the file. ``progress``,
    called with (finished, total), is told of each replay with one thing changed.

    Raises an InputError where the folder is none of these, ``out`` does not end in ``.html``, or
    cannot be written.

    >>> moesim.write_report("results/all")
    """
    from moesim.report.page import write_page

    check_out(out)
    return write_page(folder_of(folder), out, progress)


def timeline(folder: Path | str, out: Path | str = "timeline.json", *, steps: str = "0:20") -> int:
    """Write what the engines of the run in ``folder`` did to ``out``, as a Chrome trace that opens
    in ui.perfetto.dev; returns the number of spans.

    ``steps``: forward passes, ``FIRST:END``. A run without such records is simulated once more, as
    far as the last of them. Raises an InputError where the run has no such step, or did not fit.

    >>> moesim.timeline("results/quickstart", "timeline.json", steps="0:5")
    """
    from moesim.report.timeline.write import parse_steps, write_timeline

    check_out(out, optional=False)
    return write_timeline(folder_of(folder), out, parse_steps(steps))
