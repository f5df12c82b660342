"""``moesim command``: an experiment as an engine's command line, and the other way round."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moesim.cli.app import Overrides, app, examples, fail, warn

if TYPE_CHECKING:
    from moesim.experiment.engine_commands import EngineCommand


@app.command(
    epilog=examples(
        "moesim command experiments/layers-on-cpu.yaml --context 16k",
        "moesim command --from 'llama-server -hf ggml-org/gpt-oss-20b-GGUF -ncmoe 14' "
        "--gpu rtx-3060-12gb",
    )
)
def command(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="An experiment, as a YAML file.")
    ] = None,
    *,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="llama.cpp, ik_llama.cpp, ktransformers, sglang, trtllm or vllm [the one that "
            "the experiment's software, or the line's program, is of].",
        ),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS", help="Room for each request, as in 16k [the longest of the trace]."
        ),
    ] = None,
    line: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="LINE",
            help="Read this command line instead of a file; '-' reads it from stdin.",
        ),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --from: the machine's GPU.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --from: the machine's host.")
    ] = None,
    served: Annotated[
        bool,
        typer.Option(
            "--served",
            help="With --from: requests come and go as the engine's scheduler decides, in place of "
            "batches that are always full.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="With --from: a file for the experiment."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overrides: Overrides = None,
) -> None:
    """Print the command line by which an inference engine runs an experiment, or the experiment
    that such a line means. What one has no word for is said beside it, on stderr or in comments.
    """
    if (file is None) == (line is None):
        fail("write a FILE, or --from 'a command line', and not both")
    if file is not None:
        _write(file, engine, context, overrides or [], as_json=as_json)
        return
    machine = {"gpu": gpu, "host": host}
    line = sys.stdin.read() if line == "-" else str(line)
    text = _read(line, engine, machine, overrides or [], served=served, as_json=as_json)
    if out is None:
        typer.echo(text, nl=False)
        return
    from moesim.config.errors import writing
    from moesim.config.files.files import write_whole

    with writing(out):
        write_whole(out, text.encode())
    typer.echo(str(out))


def _write(
    file: Path, engine: str | None, context: str | None, overrides: list[str], *, as_json: bool
) -> None:
    from moesim.api import command as command_of
    from moesim.config.tokens import tokens_of

    tokens = None if context is None else tokens_of(context, "--context")
    found = command_of(file, engine=engine, context=tokens, overrides=overrides)
    if as_json:
        typer.echo(_json({"engine": found.engine, "command": found.text, "notes": found.notes}))
    else:
        warn(found.notes)
        if found.text is not None:
            typer.echo(found.text)
    _leave(found)


def _leave(found: EngineCommand) -> None:
    if found.text is None:
        fail(f"{found.engine} cannot run this experiment", 1)


def _read(
    line: str,
    engine: str | None,
    machine: dict[str, str | None],
    overrides: list[str],
    *,
    served: bool,
    as_json: bool,
) -> str:
    """The experiment of ``line`` as text: YAML, or JSON with what else was read."""
    from moesim.experiment.engine_commands import read_command
    from moesim.experiment.engine_commands.file import (
        experiment_text,
        filled_in,
        obstacles,
        with_settings,
    )

    found = read_command(line, engine, served=served)
    experiment = with_settings(found, machine, overrides)
    if not as_json:
        return experiment_text(found, experiment, line)
    content = {"engine": found.engine, "experiment": experiment}
    notes = [*found.notes, *filled_in(found, experiment), *obstacles(experiment)]
    return _json(content | {"context_tokens": found.context_tokens, "notes": notes}) + "\n"


def _json(content: dict[str, Any]) -> str:
    import json

    return json.dumps(content, indent=2, ensure_ascii=False)
