"""``moesim trace record``: run a model over prompts and keep its routing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from moesim.cli.app import AsJson, examples, fail, print_json
from moesim.cli.trace.app import Out, app, sizes

if TYPE_CHECKING:
    from moesim.trace import RoutingTrace
    from moesim.trace.record import RecordedRequest

INTERRUPTED = 130


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model's folder, or its Hugging Face hub name.")
]
Prompts = Annotated[
    Path,
    typer.Argument(
        metavar="PROMPTS",
        help="A text file with a prompt a line, taken as it stands (no chat template); blank lines"
        " are left out.",
    ),
]
NewTokens = Annotated[
    int,
    typer.Option(
        min=1,
        help="Tokens that a request generates. The first comes from the prefill pass and the last"
        " is not processed: 64 make 63 decode passes, 1 prefill only.",
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto: a GPU where torch finds one.")
]
DataType = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(help="Of the weights; auto: as in the checkpoint."),
]
LookAhead = Annotated[
    int,
    typer.Option(
        min=0,
        help="Also record predictions, over up to so many MoE layers: each layer's router on what"
        " the router so many layers before was given.",
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(help="Another folder or hub name, or 'bytes': a token id is a byte of UTF-8."),
]


@app.command(
    epilog=examples(
        "moesim trace record openai/gpt-oss-20b prompts.txt --max-new-tokens 256 --out mine.parquet"
    )
)
def record(
    model: Model,
    file: Prompts,
    *,
    out: Out,
    max_new_tokens: NewTokens = 64,
    limit_prompts: Annotated[
        int | None, typer.Option(min=1, help="Take the first prompts only.")
    ] = None,
    device: Device = "auto",
    dtype: DataType = "auto",
    tokenizer: Tokenizer = None,
    source: Annotated[
        str | None, typer.Option(help="Where the prompts come from (default: the file's name).")
    ] = None,
    licence: Annotated[str, typer.Option(help="The trace's licence.")] = "unknown",
    look_ahead: LookAhead = 0,
    as_json: AsJson = False,
) -> None:
    """Run a Mixture-of-Experts model over prompts, greedily, and write its routing as a trace.

    Needs pip install 'moesim[record]'. Ctrl-C keeps the requests that are complete.
    """
    from moesim.config.errors import check_apart
    from moesim.trace import record as recording
    from moesim.trace import write_trace
    from moesim.trace.parquet import check_target

    check_apart(out, file)
    check_target(out)
    texts = recording.read_prompts(file, limit_prompts)
    encode = recording.load_encoder(model, tokenizer)
    loaded = recording.load_causal_lm(model, device, dtype)
    tokens = {number: encode(text) for number, text in texts.items()}
    prompts = recording.check_prompts(tokens, max_new_tokens, loaded, file)
    routers = recording.find_routers(loaded)
    routers.check_look_ahead(look_ahead)
    coming = recording.record(loaded, routers, prompts, max_new_tokens, look_ahead)
    requests = _complete(coming, len(prompts))
    stopped = f"stopped after {len(requests)} of {len(prompts)} prompts"
    complete = len(requests) == len(prompts)
    if not requests:
        fail(f"{stopped}; nothing is written", INTERRUPTED)
    trace = recording.recorded_trace(
        loaded,
        routers,
        requests,
        name=Path(model).resolve().name if Path(model).is_dir() else model,
        source=source or file.name,
        licence=licence,
        notes=[] if complete else [stopped],
    )
    write_trace(trace, out)
    if as_json:
        print_json({"file": str(out), **sizes(trace)})
    else:
        typer.echo(f"{out}: {_described(trace)}")
    if not complete:
        fail(f"{stopped}; the complete ones are in {out}", INTERRUPTED)


def _complete(requests: Iterator[RecordedRequest], total: int) -> Sequence[RecordedRequest]:
    """The requests up to the end, or up to an interrupt."""
    done: list[RecordedRequest] = []
    try:
        with _progress_bar(total) as advance:
            for request in requests:
                done.append(request)
                advance()
    except KeyboardInterrupt:
        return done
    return done


@contextmanager
def _progress_bar(total: int) -> Iterator[Any]:
    """A bar with the time left on stderr; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("requests", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("requests", total=total)
        yield lambda: bar.advance(task)


def _described(trace: RoutingTrace) -> str:
    from moesim.config.counted import counted
    from moesim.trace import Phase

    prefill, decode = (int((trace.phase == phase).sum()) for phase in (Phase.PREFILL, Phase.DECODE))
    notes = f"\nnote: {trace.metadata.notes}" if trace.metadata.notes else ""
    return (
        f"{counted(trace.requests, 'request')}, {prefill} prefill and"
        f" {counted(decode, 'decode token')},"
        f" {counted(trace.moe_layers, 'MoE layer')}, top-{trace.top_k} of"
        f" {counted(trace.experts, 'expert')}{notes}"
    )
