"""``moesim fit``: what fits in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from moesim.cli.app import ExperimentFile, Overrides, app, examples, terminal


@app.command(
    epilog=examples("moesim fit experiments/quickstart.yaml --context 1k,8k --out fit.png")
)
def fit(
    file: ExperimentFile,
    *,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS",
            help="Context lengths of the table, as in 4096,16k [1k, 2k, ... to the model's]; the "
            "answers are at the longest.",
        ),
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N", help="Batch sizes of the table.")] = "1,4,16",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FIGURE", help="Draw the table (.png or .svg)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overrides: Overrides = None,
) -> None:
    """Say whether an experiment fits in memory, the largest batch and capacity that do, what
    memory holds at each batch, and how many slots are left at longer contexts.
    """
    from moesim.api import fit as fitted
    from moesim.calibrate.closed_loop.request import whole_numbers
    from moesim.config.tokens import many_tokens_of

    contexts = None if context is None else many_tokens_of(context, "--context")
    batches = whole_numbers(batch, "--batch")
    answer = fitted(file, context=contexts, batch=batches, overrides=overrides or ())
    figure = None
    if out is not None:
        from moesim.report.run.fit import draw

        figure = draw(answer["slots_by_context"], answer["local_experts"], out)
    if as_json:
        import json

        typer.echo(json.dumps(answer, indent=2))
        return
    _print(answer, None if contexts is None else max(contexts))
    if figure is not None:
        typer.echo(str(figure))


def _print(answer: dict[str, Any], asked: int | None) -> None:
    """``asked``: the context that the answer is at; None for the trace's own."""
    from moesim.config.amounts.sizes import GIB
    from moesim.config.counted import counted
    from moesim.report.run.fit import batches, table

    at = "" if asked is None else f" at a context of {asked:,} tokens"
    typer.echo(f"fits{at}" if answer["fits"] else f"does not fit{at}: {answer['reason']}")
    peak, limit = answer["peak_memory_bytes"] / GIB, answer["limit_bytes"] / GIB
    own, local = answer["slots_per_layer"], answer["local_experts"]
    some = _of_some(answer["slot_layers"], answer["moe_layers"])
    of = "a GPU:     " if answer["gpus"] == 1 else f"each GPU of {answer['gpus']}, the fullest: "
    typer.echo(f"peak memory of {of}{peak:.2f} of {limit:.2f} GiB, {_held(own, local)}{some}")
    batch, context = answer["largest_batch"], answer["longest_context_tokens"]
    typer.echo(
        f"largest batch:            {_or_none(batch)} request{'s' * ((batch or 1) != 1)} of"
        f" {counted(context, 'token')}{_FULL * (batch == answer['seats'])}"
    )
    slots = answer["largest_slots"]
    room = f" ({answer['capacity_bytes'] / GIB:.2f} GiB)" if slots else ""
    typer.echo(f"largest expert capacity:  {_or_none(slots)} of {local} slots/layer{room}{some}")
    typer.echo(f"layers on the CPU:        {_on_cpu(answer['cpu_layers'], answer['moe_layers'])}")
    terminal().print(batches(answer["memory_by_batch"]))
    terminal().print(table(answer["slots_by_context"], local, some))
    for note in answer["notes"]:
        typer.echo(f"note: memory: {note}")


_FULL = ", as many as the scheduler lets run (max_num_seqs): memory has room for them"


def _held(slots: int, local: int) -> str:
    """What of a layer's experts that memory is for."""
    return "with all experts" if slots >= local else f"with {slots} of {local} slots/layer"


def _of_some(slotted: int, layers: int) -> str:
    """Which layers slots are of, where the experiment leaves some on the CPU."""
    return f", in the {slotted} of {layers} layers that are not on the CPU" * (slotted < layers)


def _on_cpu(least: int | None, layers: int) -> str:
    """Of how many layers the experts have to be there."""
    if least is None:
        return f"not even the experts of all {layers}"
    if not least:
        return f"0 of {layers}: all experts fit"
    return f"{least} of {layers} (experts.on_cpu.layers), with all others resident"


def _or_none(number: int | None) -> str:
    return "not even 1" if number is None else str(number)
