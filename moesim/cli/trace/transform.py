"""``moesim trace transform``: a trace by other rules of routing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from moesim.cli.app import AsJson, examples, print_json
from moesim.cli.trace.app import Out, TraceFile, app, described, sizes

if TYPE_CHECKING:
    from moesim.trace.transforming import Transformed


@app.command(
    "transform",
    epilog=examples(
        'moesim trace transform traces/quickstart.parquet --routing "{kind: top_k, k: 2}" -o '
        "two.parquet"
    ),
)
def transform_(
    file: TraceFile,
    *,
    out: Out,
    routing: Annotated[
        str,
        typer.Option(
            metavar="RULES",
            help="A rule, a list of them, or a YAML file with the key 'routing' (moesim list "
            "transforms).",
        ),
    ],
    layers: Annotated[bool, typer.Option("--layers", help="Show every MoE layer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write what the tokens of a trace choose by other rules, and say what is lost."""
    from moesim.config.errors import check_apart, located
    from moesim.trace import read_trace, write_trace
    from moesim.trace.rules import read_rules
    from moesim.trace.transforming import transform

    check_apart(out, file)
    rules = read_rules(routing)
    with located(file):
        found = transform(read_trace(file), rules)
    write_trace(found.trace, out)
    if as_json:
        print_json({"file": str(out), **sizes(found.trace), "told": _lines(found, layers=layers)})
        return
    typer.echo(f"{out}: {described(found.trace)}")
    for line in _lines(found, layers=layers):
        typer.echo(line)


def _lines(found: Transformed, *, layers: bool) -> list[str]:
    losses = found.losses
    lines = [f"choices a token: {losses.mean_choices:.4g}, recorded {losses.recorded_choices:.4g}"]
    lines.append(f"gate weight lost: {_percent(losses.gate_weight_lost)}")
    if losses.gate_weight_lost is None and found.trace.gate_weights is None:
        lines[-1] += ", the trace has no weights"
    if losses.learnt is not None:
        lines.append(f"  in the tokens learnt from: {_percent(losses.learnt)}")
    if losses.held_out is not None:
        lines.append(f"  in the tokens held out: {_percent(losses.held_out)}")
    if layers:
        ids, lost = found.trace.metadata.moe_layer_ids, map(_percent, losses.lost_by_layer)
        rows = zip(ids, found.experts, losses.mean_by_layer, lost, strict=True)
        lines += [f"  layer {i}: {e} experts, {k:.4g} choices, {w} lost" for i, e, k, w in rows]
    return [*lines, *(f"note: {note}" for note in losses.notes)]


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.3g} %"
