"""The command line's application, to which each command module adds its own.

A command is one file in this folder: it imports ``app``, decorates a function with
``@app.command()`` and imports whatever is heavy inside that function. ``main`` finds the file;
nothing else is edited.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="moesim",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What throughput, latency and memory does each gating, caching and placement choice give "
    "for this routing trace, model and hardware?",
)

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="An experiment, as a YAML file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set one value of the experiment, as in 'experts.capacity=8 slots/layer'; repeatable.",
    ),
]

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Begin anew in a folder that holds only what moesim wrote there. What it held stays "
        "(in .before, of a sweep or an advice) until the new is complete; a run replaces a run "
        "alone.",
    ),
]

Cache = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Use results in this folder again where nothing that decides them has changed, and "
        "keep new ones there; 'none' for none [MOESIM_CACHE].",
    ),
]

AllowDrops = Annotated[
    bool,
    typer.Option("--allow-drops", help="Let the best be a point that drops or skips choices, too."),
]

RunsAtOnce = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        help="Runs at the same time [one, or one a core where that is faster].",
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Method = Annotated[
    str,
    typer.Option(
        help="auto or table: what was measured, else its fit, else the datasheet; fit: without"
        " what was measured; datasheet.",
        show_default=True,
    ),
]
Software = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="As runs with this software have it: its kernels, counts and fits."
    ),
]

Report = Annotated[
    bool,
    typer.Option("--report", help="Write the result as one page, too: DIR/report.html."),
]


def terminal(*, stderr: bool = False) -> Console:
    """What tables are printed on: brackets and colons in names and paths are no markup."""
    from rich.console import Console

    return Console(markup=False, emoji=False, stderr=stderr)


def print_json(value: Any) -> None:
    """Print ``value`` as JSON: numpy's scalars as numbers, what is missing as null."""
    import json

    from moesim.results.files import plain

    typer.echo(json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False))


def examples(*commands: str) -> str:
    """The end of a command's help: lines that can be typed."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


def names_in(given: Iterable[str]) -> list[str]:
    """The names of an option that takes several, joined by commas or each by itself."""
    return [name.strip() for text in given for name in text.split(",")]


def _show_version(wanted: bool) -> None:
    if wanted:
        import moesim

        typer.echo(f"moesim {moesim.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and leave."
        ),
    ] = False,
) -> None:
    """The options that come before a command."""
    del version


def show_page(folder: Path, *, report: bool, stderr: bool = False) -> None:
    """Write the page of ``folder``, where it was asked for, and say where it is."""
    if report:
        from moesim.api import write_report

        typer.echo(f"page:   {write_report(folder)}", err=stderr)


def warn(lines: Iterable[str]) -> None:
    """Print ``lines`` on stderr."""
    for line in lines:
        typer.echo(line, err=True)


def fail(message: str, code: int = 2) -> NoReturn:
    """Print ``message`` on stderr and leave with ``code``."""
    typer.echo(message, err=True)
    raise typer.Exit(code)
