"""A model in the terminal: its parts, its layers, what a token caches, what is not known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table

from moesim.config.counted import counted
from moesim.model.parts import by_layer
from moesim.model.spec import ModelSpec

MOST_RANGES = 3
"""Runs of layer numbers in a cell; of more the number is told."""

LEAST_BILLIONS = 0.005


def model_report(model: ModelSpec) -> Iterator[RenderableType]:
    """What ``moesim model show`` prints, piece by piece."""
    told = by_layer(model)
    yield from _first_lines(told)
    yield _parts(told)
    yield _layers(told["layers"])
    yield from _cache(told)
    if (mtp := told["mtp"])["layers"]:
        predict = "predicts" if mtp["layers"] == 1 else "predict"
        yield (
            f"apart, in no total: {counted(mtp['layers'], 'layer')} that {predict} further tokens "
            f"(MTP), {_many(mtp['parameters'])}, {_size(mtp['bytes'])}"
        )
    yield from (f"note: {note}" for note in told["notes"])
    if not told["notes"]:
        yield "every part is understood"


def _many(count: int) -> str:
    """In billions, or millions where that would be 0.00 of them."""
    return f"{count / 1e9:.2f} B" if count >= LEAST_BILLIONS * 1e9 else f"{count / 1e6:.3g} M"


def _first_lines(told: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{told['name']}: {_many(told['parameters'])} parameters, "
        f"{_many(told['active_parameters'])} active, {_size(told['bytes'])}"
    )
    context = told["longest_context"]
    words = f", context {context:,}" if context else ""
    yield (
        f"family {told['family']}, {counted(len(told['layers']), 'layer')}, "
        f"{told['moe_layers']} with experts, hidden size {told['hidden_size']}, "
        f"vocabulary {told['vocab_size']:,}{words}"
    )


def _parts(told: Mapping[str, Any]) -> Table:
    table = _table("part", "weights\n1e9", "size\nGB", "share\n%", "bits a\nweight")
    for row in told["parts"]:
        if not row["parameters"]:
            continue
        table.add_row(
            row["part"], f"{row['parameters'] / 1e9:,.3f}", f"{row['bytes'] / 1e9:,.3f}",
            f"{100 * row['bytes'] / max(told['bytes'], 1):.1f}",
            f"{8 * row['bytes'] / row['parameters']:.2f}",
        )  # fmt: skip
    return table


def _layers(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row for layers that are alike."""
    table = _table(
        "layers", "attention", "experts", "an expert\nMB", "attention\nMB", "layer\nMB",
        "a token\nbytes",
    )  # fmt: skip
    for row, numbers in _alike(rows):
        table.add_row(
            _ranges(numbers), _attention(row), _experts(row), _expert(row),
            _megabytes(row["attention_bytes"]), _megabytes(row["bytes"]),
            f"{row['kv_bytes_per_token']:,}" if row["kv_bytes_per_token"] else "-",
        )  # fmt: skip
    return table


def _alike(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], list[int]]]:
    found: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        key = tuple(value for name, value in row.items() if name != "index")
        found.setdefault(key, []).append(row["index"])
    return [(rows[numbers[0]], numbers) for numbers in found.values()]


def _ranges(numbers: Sequence[int]) -> str:
    """Layer numbers in short: 0-2, 4, 6-7; of many runs how many layers there are."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    shown = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    if len(runs) <= MOST_RANGES:
        return ", ".join(shown)
    return f"{', '.join(shown[:2])} ... {shown[-1]} ({len(numbers)})"


def _attention(row: Mapping[str, Any]) -> str:
    kind = row["attention"] if row["attention"] != "none" else "-"
    if not row["window"]:
        return str(kind)
    return f"{'sliding' if kind == 'full' else kind} {row['window']:,}"


def _experts(row: Mapping[str, Any]) -> str:
    if not row["experts"]:
        return "dense" if row["dense_bytes"] else "-"
    beside = " + shared" if row["shared_bytes"] else ""
    return f"{row['top_k']} of {row['experts']}{beside}"


def _expert(row: Mapping[str, Any]) -> str:
    return f"{_megabytes(row['expert_bytes'])} {row['expert_dtype']}" if row["experts"] else "-"


def _cache(told: Mapping[str, Any]) -> Iterator[str]:
    rows = told["layers"]
    within = sum(row["kv_bytes_per_token"] for row in rows if row["window"])
    held = f", {within:,} of it in windows only" if within else ""
    yield f"a token caches {told['kv_bytes_per_token']:,} bytes (KV){held}"
    if told["state_bytes"]:
        layers = sum(bool(row["state_bytes"]) for row in rows)
        yield (
            f"a request keeps {_size(told['state_bytes'])} of state in "
            f"{counted(layers, 'layer')}, however long it is"
        )


def _table(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, justify="left", overflow="fold")
    for name in others:
        words = name in ("attention", "experts")
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    return table


def _size(amount: int) -> str:
    return f"{amount / 1e9:,.2f} GB" if amount >= 10**8 else f"{amount / 1e6:,.2f} MB"


def _megabytes(amount: int) -> str:
    return f"{amount / 1e6:,.2f}" if amount else "-"
