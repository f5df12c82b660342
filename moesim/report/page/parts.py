"""What pages of runs, sweeps and advices have in common."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from moesim.config.errors import InputError
from moesim.config.registry import VARIABLE
from moesim.report.amounts import gib, percent
from moesim.report.drawing.sheet import drawn
from moesim.report.drawing.style import METADATA, RC
from moesim.report.figures import registry
from moesim.report.page.content import Fact, Picture
from moesim.report.plot import figure_of, named_figures, prepared, setting_of
from moesim.report.run.components import cause_in_words
from moesim.results.folder import read_provenance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from moesim.report.figures import Figure

OVER_TIME = ("timeline", "time_over_run")
"""Figures that have a section of their own."""
MORE_RECORDS = "'--set records=expert' keeps these, and 'moesim timeline' shows them in Perfetto"
MOST_INPUT = 12
COMMAND = re.compile(rf"({VARIABLE}=\S+ )?(\S*) ?(.*)", re.DOTALL)
"""What somebody typed: the plug-ins, the program, the rest."""
"""Characters of a digest that tell files apart."""


def pictures(folder: Path) -> list[Picture]:
    """The figures that 'moesim plot' draws of ``folder``."""
    asked = [figure_of(kind) for kind in named_figures(folder)]
    tables, _ = prepared(folder, [one for one in asked if one.kind not in OVER_TIME])
    if not tables:
        every = [one() for one in registry.components.values() if one.is_default()]
        tables, _ = prepared(folder, [one for one in every if one.kind not in OVER_TIME])
    return _drawn(folder, tables)


def timeline(folder: Path, *, best: bool = False) -> tuple[list[Picture], list[str]]:
    """What each engine did in a pass where the run in ``folder`` recorded that, and where the time
    of passes went where it kept these; and what is, or is not, to be seen. ``best``: of a sweep's
    best point.
    """
    tables, _ = prepared(folder, [figure_of(kind) for kind in OVER_TIME])
    kinds = {figure.kind for figure, _ in tables}
    of = "The best point" if best else "The run"
    if "timeline" in kinds:
        note = "A pass in the middle: what the GPUs do, and beside it copies and the host."
    elif kinds:
        note = f"{of} kept its passes, not what each engine did in them: {MORE_RECORDS}."
    else:
        note = f"{of} kept no passes (records: summary), so there is nothing to see here: "
        note += f"'--set records=step' keeps what the time of each goes to, {MORE_RECORDS}."
    return _drawn(folder, tables), [note]


def _drawn(folder: Path, tables: Sequence[tuple[Figure, pd.DataFrame]]) -> list[Picture]:
    setting, found = setting_of(folder) if tables else "", []
    for figure, table in tables:
        svg = io.StringIO()
        with drawn(figure, table.assign(setting=setting)) as sheet:
            sheet.savefig(svg, format="svg", metadata=dict(METADATA["svg"]))
        found.append(Picture(figure.stem.replace("_", " "), svg.getvalue()))
    return found


def drawn_picture(
    title: str, drawing: Callable[[Axes], None], inches: tuple[float, float]
) -> Picture:
    """What ``drawing`` draws, in the project's style."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    svg = io.StringIO()
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Sheet(figsize=inches, layout="constrained")
        FigureCanvasAgg(sheet)
        drawing(sheet.add_subplot())
        sheet.savefig(svg, format="svg", metadata=dict(METADATA["svg"]))
    return Picture(title, svg.getvalue())


def ledger(summary: Mapping[str, Any]) -> list[Fact]:
    """Memory of the fullest GPU by what it holds, the fullest part first, and what it has."""
    parts = sorted((summary.get("memory_bytes") or {}).items(), key=lambda part: -(part[1] or 0))
    rows = [(name.replace("_", " "), gib(size)) for name, size in parts if size]
    whole = [("all of it, at its peak", gib(summary.get("peak_memory_bytes")))]
    limit = [("what the GPU has", gib(summary.get("memory_capacity_bytes")))]
    host = summary.get("host_memory_bytes")
    return [*rows, *whole, *limit, *([("host memory", gib(host))] if host else [])]


def shares(summary: Mapping[str, Any]) -> dict[str, float]:
    """Where the time goes, in words, the largest share first."""
    found = {cause_in_words(k): float(v) for k, v in (summary.get("time_share") or {}).items() if v}
    return dict(sorted(found.items(), key=lambda share: -share[1]))


def waits(summary: Mapping[str, Any]) -> str:
    """What most of the time goes to in a sentence; nothing where there is none. GPUs that are idle
    while requests are served wait for the next one.
    """
    served = summary.get("completed") is not None
    told = (
        f"the arrivals, which come more slowly than they are answered (nothing is there to compute"
        f" for {percent(share)} of the time)"
        if served and name == "idle"
        else f"{name} ({percent(share)} of the time)"
        for name, share in list(shares(summary).items())[:2]
    )
    return f"Limited by: {', then '.join(told)}." if shares(summary) else ""


def command(configuration: Mapping[str, Any], engine: str | None = None) -> list[str]:
    """The line by which its engine, or ``engine``, runs it ("" where it cannot), and what that
    leaves open, or why; nothing where no engine is its own.
    """
    from moesim.experiment.engine_commands import command_of
    from moesim.experiment.loading.resolve import load_experiment

    with suppress(InputError):
        found = command_of(load_experiment(dict(configuration), alone=True).experiment, engine)
        return [found.text or "", *found.notes]
    return []


def experiment_text(configuration: Mapping[str, Any]) -> str:
    """An experiment as a file."""
    return yaml.safe_dump(dict(configuration), sort_keys=False, allow_unicode=True, width=100)


def made(folder: Path) -> list[Fact]:
    """Versions, and the digests of the files that the result in ``folder`` was made from."""
    told = read_provenance(folder)
    names = ("moesim", "python", "platform", "seed", "command")
    rows = [(name, _said(name, told[name])) for name in names if told.get(name) is not None]
    inputs = told.get("inputs") or {}
    return rows + [
        (f"{name}: {Path(str(one.get('path', ''))).name}", str(one.get("sha256", ""))[:MOST_INPUT])
        for name, one in inputs.items()
    ]


def _said(name: str, value: Any) -> str:
    """A version as it is; a command without where its program lies, which is nobody else's."""
    found = COMMAND.fullmatch(str(value))
    assert found is not None, "it takes any text"
    plugins, program, rest = found.groups("")
    ours = name == "command" and Path(program).name in ("moesim", "__main__.py")
    return f"{plugins}moesim {rest}".strip() if ours else str(value)


def unique(lines: Sequence[str]) -> list[str]:
    """Each line once, none empty."""
    return [line for line in dict.fromkeys(lines) if line]
