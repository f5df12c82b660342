"""``moesim trace``: import, check, describe and cut routing traces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moesim.cli.app import AsJson, examples, print_json, terminal, warn
from moesim.cli.app import app as command_line

if TYPE_CHECKING:
    from moesim.trace import RoutingTrace

app = typer.Typer(
    no_args_is_help=True, help="Record, import, check, describe and cut routing traces."
)
command_line.add_typer(app, name="trace")

TraceFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A trace (.parquet), or a shipped one by name.")
]
Looked = Annotated[
    str,
    typer.Argument(
        metavar="TRACE", help="As FILE, or an experiment's file, or a model: what its run takes."
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The trace to write.")]


@app.command(
    "import",
    epilog=examples("moesim trace import recorded.npz --out mine.parquet --model gpt-oss-20b"),
)
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A recording; its format is recognised.")
    ],
    *,
    out: Out,
    model: Annotated[
        str | None, typer.Option(help="The model it was recorded from: a card or a config.json.")
    ] = None,
    importer: Annotated[
        str | None, typer.Option(help="The format, instead of recognising it (moesim list).")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Experts a token uses (router logits).")] = None,
    prompt_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS",
            help="Positions below this are prompt, the rest is decoded: 7, or one number a request "
            "as in 7,12,9, or a file of them.",
        ),
    ] = None,
    request_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS",
            help="How long the requests are that one array joins, as for --prompt-tokens.",
        ),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Where the recording comes from.")] = None,
    licence: Annotated[str | None, typer.Option(help="The recording's licence.")] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a recording of any known format into a trace."""
    from moesim.api import import_trace
    from moesim.trace.lengths import PROMPT, REQUEST, parse_lengths

    trace = import_trace(
        file,
        out=out,
        importer=importer,
        model=model,
        top_k=top_k,
        prompt_tokens=parse_lengths(prompt_tokens, PROMPT) if prompt_tokens else None,
        request_tokens=parse_lengths(request_tokens, REQUEST) if request_tokens else None,
        source=source,
        licence=licence,
    )
    if as_json:
        print_json({"file": str(out), **sizes(trace)})
        return
    typer.echo(f"{out}: {described(trace)}")
    if trace.metadata.notes:
        typer.echo(f"note: {trace.metadata.notes}")
    if fewer := _with_fewer(trace):
        typer.echo(f"note: in some layer {fewer} chose fewer than {trace.top_k} experts")
    if model is None and trace.metadata.model is None:
        typer.echo(f"note: no --model; experts taken from the ids as {trace.experts}")


def _with_fewer(trace: RoutingTrace) -> str:
    """How many tokens choose fewer experts in a layer than others do; nothing where none does."""
    from moesim.config.counted import counted
    from moesim.trace import NO_EXPERT

    tokens = int((trace.expert_ids == NO_EXPERT).any(axis=(1, 2)).sum())
    return counted(tokens, "token") if tokens else ""


@app.command(epilog=examples("moesim trace validate traces/quickstart.parquet"))
def validate(file: TraceFile, *, as_json: AsJson = False) -> None:
    """List everything that is wrong with a trace (exit code 1; 2 if it cannot be read)."""
    from moesim.trace.parquet import load_trace
    from moesim.trace.validate import findings

    trace = load_trace(file)
    found = findings(trace)
    if as_json:
        print_json({"file": str(file), "findings": [_plain(one) for one in found]})
        raise typer.Exit(int(bool(found)))
    for finding in found:
        level = "error" if finding.fatal else "warning"
        typer.echo(f"{file}: {finding.column}: {level}: {finding.what}")
    if found:
        raise typer.Exit(1)
    typer.echo(f"{file}: clean; {described(trace)}")
    if trace.metadata.notes:
        typer.echo(f"note: {trace.metadata.notes}")


@app.command(
    epilog=examples(
        "moesim trace stats traces/quickstart.parquet --layers",
        "moesim trace stats deepseek-v3",
    )
)
def stats(
    trace: Looked,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Show every MoE layer.")] = False,
) -> None:
    """Entropy, load, reuse and correlation of a trace's routing."""
    import json

    from moesim.experiment.loading.looked_at import look_at
    from moesim.trace.statistics import statistics

    found = look_at(trace)
    warn(found.told)
    result = statistics(found.trace)
    if as_json:
        typer.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    from moesim.trace.statistics.tables import tables

    console = terminal()
    for table in tables(result, layers=layers):
        console.print(table)
    if found.trace.metadata.notes:
        typer.echo(f"note: {found.trace.metadata.notes}")


@app.command(
    "slice",
    epilog=examples(
        "moesim trace slice traces/quickstart.parquet --requests 0:4 --out four.parquet"
    ),
)
def slice_(
    file: TraceFile,
    out: Out,
    requests: Annotated[
        str, typer.Option(metavar="FIRST:END[:STEP]", help="Requests, by their order in the file.")
    ] = ":",
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Keep the first tokens of every request.")
    ] = None,
    layers: Annotated[str, typer.Option(metavar="FIRST:END[:STEP]", help="MoE layers.")] = ":",
    *,
    as_json: AsJson = False,
) -> None:
    """Write some requests, tokens or MoE layers of a trace as a trace of its own."""
    from moesim.config.errors import check_apart, located
    from moesim.trace import read_trace, write_trace
    from moesim.trace.slicing import parse_slice, slice_trace

    check_apart(out, file)
    chosen = parse_slice(requests, "--requests"), tokens, parse_slice(layers, "--layers")
    with located(file):
        trace = slice_trace(read_trace(file), *chosen)
    write_trace(trace, out)
    if as_json:
        print_json({"file": str(out), **sizes(trace)})
        return
    typer.echo(f"{out}: {described(trace)}")


def _plain(finding: Any) -> dict[str, Any]:
    return {"column": finding.column, "fatal": finding.fatal, "what": finding.what}


def sizes(trace: RoutingTrace) -> dict[str, Any]:
    """What ``described`` says, as numbers."""
    return {
        "requests": trace.requests, "tokens": trace.tokens, "moe_layers": trace.moe_layers,
        "top_k": trace.top_k, "experts": trace.experts,
    }  # fmt: skip


def described(trace: object) -> str:
    """``20 requests, 5077 tokens, 24 MoE layers, top-4 of 32 experts``."""
    from moesim.config.counted import counted
    from moesim.trace import RoutingTrace

    assert isinstance(trace, RoutingTrace)
    return (
        f"{counted(trace.requests, 'request')}, {counted(trace.tokens, 'token')},"
        f" {counted(trace.moe_layers, 'MoE layer')},"
        f" top-{trace.top_k} of {counted(trace.experts, 'expert')}"
    )
