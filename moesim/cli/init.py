"""``moesim init``: an experiment to begin with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, app, examples, print_json


@app.command(
    epilog=examples(
        "moesim init qwen3-30b-a3b@q4_k_m --gpu rtx-5070 --workload documents -o mine.yaml",
        "moesim init gpt-oss-120b --gpu rtx-pro-6000 --gpus 2 --workload serve -o service.yaml",
    )
)
def init(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A card, NAME@FORMAT, a repository (Qwen/Qwen3-30B-A3B-FP8), a tag of Ollama's "
            "(gpt-oss:20b), a GGUF file, a config.json.",
        ),
    ] = None,
    *,
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="The GPU.")] = None,
    gpus: Annotated[int, typer.Option(metavar="N", min=1, help="How many GPUs [1].")] = 1,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="The host [an assumed one, told].")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The drive that experts are read from which memory does not hold."
        ),
    ] = None,
    software: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What runs it [llama.cpp or vllm, with the reason]."),
    ] = None,
    workload: Annotated[
        str | None, typer.Option(metavar="KIND", help="chat, documents, batch or serve [chat].")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The experiment to write.")
    ] = Path("experiment.yaml"),
    as_json: AsJson = False,
) -> None:
    """Write an experiment with a comment at every key, from a model, a machine and a workload; what
    is not given is asked for.
    """
    from moesim.config.errors import InputError, Problem
    from moesim.config.files.files import write_whole
    from moesim.sweep.advise.question import Question
    from moesim.sweep.advise.starter import WORKLOADS, starter

    if out.exists():
        raise InputError([Problem("--out", "", f"'{out}' is there; name another file")])
    model = model or _asked("Model ('moesim list models', a GGUF file)", "MODEL")
    gpu = gpu or _asked("GPU ('moesim list gpus')", "--gpu")
    kinds = "; ".join(
        f"{name}: {one.words}, {one.context:,} tokens of context" for name, one in WORKLOADS.items()
    )
    workload = workload or _asked(f"Workload ({kinds})", "--workload", "chat")
    question = Question(model, gpu=gpu, gpus=gpus, host=host, software=software, storage=storage)
    write_whole(out, starter(question, workload))
    if as_json:
        print_json({"file": str(out)})
        return
    typer.echo(f"{out}\nnext:   moesim check {out}; moesim run {out}; moesim advise {out}")


def _asked(what: str, option: str, default: str | None = None) -> str:
    """The answer to a question; where nobody can answer, the default or an error."""
    from moesim.config.errors import InputError, Problem

    if sys.stdin.isatty():
        return str(typer.prompt(what, default=default))
    if default is None:
        raise InputError([Problem(option, "", "is needed; this is no terminal to ask at")])
    return default
