"""The statistics of a trace as tables for people."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

Values = dict[str, Any]

_COLUMNS = {
    "entropy_bits": ("entropy", "bits", ".3f"),
    "load_max_over_mean": ("load", "max/mean", ".2f"),
    "load_cv": ("load", "CV", ".2f"),
    "overlap_previous": ("overlap", "previous", ".3f"),
    "overlap_shuffled": ("overlap", "shuffled", ".3f"),
    "reuse_distance_p50": ("reuse", "p50", ".1f"),
    "reuse_distance_p90": ("reuse", "p90", ".1f"),
    "first_use_share": ("first", "uses", ".3f"),
    "next_layer_mutual_information_bits": ("next", "MI bits", ".3f"),
    "next_layer_cramers_v": ("next", "V", ".3f"),
}


def tables(result: Values, *, layers: bool) -> list[Table]:
    """Tables of ``statistics``: the trace, the layers (mean, first, last, or all), batches, and
    what a recorded look-ahead predicts.
    """
    shown = [_trace(result), _layers(result, every=layers)]
    if result["distinct_experts"]:
        shown.append(_batches(result))
    return [*shown, _predictions(result, every=layers)] if result["predictions"] else shown


def _trace(result: Values) -> Table:
    table = Table(show_header=False, box=None)
    lengths = result["request_tokens"]
    phases = [f"{n} {name}" for name, n in result["tokens_by_phase"].items() if n]
    domains = [f"{n} {name}" for name, n in result["domains"].items()]
    for name, value in (
        ("model", result["model"] or "not named"),
        ("requests", f"{result['requests']}, {lengths['min']} to {lengths['max']} tokens each"),
        ("tokens", f"{result['tokens']} ({', '.join(phases)})"),
        ("MoE layers", f"{result['moe_layers']}, top-{result['top_k']} of {result['experts']}"),
    ):
        table.add_row(name, value)
    if transformed := result.get("transformed"):
        table.add_row("transformed", _lost(transformed))
    if domains:
        table.add_row("domains", ", ".join(domains))
    return table


def _lost(transformed: Values) -> str:
    """By which rules, and what is left of choices and lost of gate weight."""
    left, recorded = transformed["mean_choices"], transformed["recorded_choices"]
    share = transformed["gate_weight_lost"]
    lost = "gate weight lost not known" if share is None else f"{share:.1%} of gate weight lost"
    return f"{', '.join(transformed['rules'])}: {left:.4g} of {recorded:.4g} choices, {lost}"


def _layers(result: Values, *, every: bool) -> Table:
    caption = "reuse in distinct experts between; next: with the next MoE layer's experts"
    table = Table(
        title="Routing by MoE layer",
        caption=caption,
        box=box.HORIZONTALS,
        padding=0,
        pad_edge=False,
    )
    table.add_column("layer", no_wrap=True)
    for above, below, _ in _COLUMNS.values():
        table.add_column(f"{above}\n{below}", justify="right", no_wrap=True)
    rows = result["layers"]
    for row in rows if every or len(rows) <= 2 else (rows[0], rows[-1]):  # noqa: PLR2004
        table.add_row(str(row["layer"]), *_cells(row))
    table.add_section()
    table.add_row("mean", *_cells(result["mean"]))
    return table


def _cells(row: Values) -> list[str]:
    return [
        "-" if row[name] is None else format(row[name], style)
        for name, (_, _, style) in _COLUMNS.items()
    ]


def _batches(result: Values) -> Table:
    table = Table(title="Distinct experts a layer, by batch size", box=box.HORIZONTALS)
    for name in ("batch size", "batches", "measured", "independent", "uniform"):
        table.add_column(name, justify="right")
    for row in result["distinct_experts"]:
        numbers = (row["mean"], row["independent"], row["uniform"])
        table.add_row(str(row["batch_size"]), str(row["steps"]), *(f"{n:.2f}" for n in numbers))
    return table


def _predictions(result: Values, *, every: bool) -> Table:
    caption = "recall: of what tokens choose; precision: of what was predicted for them"
    table = Table(title="Recorded predictions", caption=caption, box=box.HORIZONTALS)
    for name in ("MoE layers ahead", "layer", "recall", "precision"):
        table.add_column(name, justify="right")
    for one in result["predictions"]:
        rows = one["layers"]
        for row in rows if every or len(rows) <= 2 else (rows[0], rows[-1]):  # noqa: PLR2004
            table.add_row(str(one["distance"]), str(row["layer"]), *_right(row))
        table.add_row(str(one["distance"]), "all", *_right(one), end_section=True)
    return table


def _right(row: Values) -> list[str]:
    return ["-" if row[name] is None else f"{row[name]:.3f}" for name in ("recall", "precision")]
