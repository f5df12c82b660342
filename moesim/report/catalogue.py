"""What there is to choose from: components by registry, models and profiles by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from moesim.config.errors import InputError, Problem, nearest
from moesim.config.plain import plain_data
from moesim.config.registry import Registry

REGISTRIES: Mapping[str, str] = {
    "policies": "moesim.memory.policies",
    "gatings": "moesim.gating",
    "planners": "moesim.placement",
    "batchings": "moesim.workload.batching",
    "importers": "moesim.trace.importers",
    "figures": "moesim.report.figures",
}
"""The packages whose ``registry`` holds the components of a kind."""

Row = dict[str, Any]
GIGA = 1e9
NOT_FIGURES = ("name", "source", "sources", "notes", "kind", "date")


def listing(what: str) -> list[Row]:
    """Name and key figures of everything of the kind ``what``; an InputError for another kind."""
    if what in REGISTRIES:
        return components(importlib.import_module(REGISTRIES[what]).registry)
    if what in CATALOGUES:
        return CATALOGUES[what]()
    known = [*REGISTRIES, *CATALOGUES]
    raise InputError([Problem("list", "", f"'{what}' cannot be listed; {nearest(what, known)}")])


def components(registry: Registry[Any]) -> list[Row]:
    """The registered components, each with the first line of its docstring."""
    return [
        {"name": kind, "description": first_line(component)}
        for kind, component in registry.components.items()
    ]


def first_line(documented: object) -> str:
    """The first line of a docstring, without its full stop."""
    text = inspect.getdoc(documented) or ""
    return text.partition("\n")[0].rstrip(".")


def models() -> list[Row]:
    """The shipped models with their sizes (bytes as stored)."""
    from moesim.model import load_model, model_names

    return [model_row(load_model(name)) for name in model_names()]


def model_row(model: Any) -> Row:
    """The key figures of one model."""
    first = model.moe_layers[0].moe if model.moe_layers else None
    return {
        "name": model.name,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "bytes": model.bytes,
        "moe_layers": len(model.moe_layers),
        "experts": first.experts if first else 0,
        "top_k": first.top_k if first else 0,
        "expert_bytes": first.expert.bytes if first else 0,
    }


def hardware() -> list[Row]:
    """The shipped hardware profiles with their datasheets' key figures."""
    from moesim.hardware import hardware_names, load_hardware

    return [{"name": name, **machine_row(load_hardware(name))} for name in hardware_names()]


def machine_row(profile: Any) -> Row:
    """The key figures of one GPU and its wiring; rates are peaks of one direction."""
    sheet = profile.datasheet
    return {
        "memory_bytes": sheet.memory.value,
        "memory_bandwidth_bytes_per_s": sheet.memory_bandwidth.value,
        "fp16_flop_per_s": sheet.compute.fp16.value,
        "h2d_bytes_per_s": sheet.copies.h2d.pinned.bandwidth.value,
        "peers_bytes_per_s": sheet.peers.bandwidth.value,
        "gpus": profile.gpus,
        "title": profile.title,
    }


def software() -> list[Row]:
    """The shipped software profiles with their key figures."""
    from moesim.hardware import load_software, software_names

    return [{"name": name, **key_figures(load_software(name))} for name in software_names()]


def key_figures(profile: Any) -> Row:
    """The plain values of a profile: of its datasheet where it has one."""
    content = plain_data(profile)
    part = content.get("datasheet") or content
    plain = {key: entry.get("value", entry) if isinstance(entry, dict) else entry
             for key, entry in part.items()}  # fmt: skip
    return {
        key: value
        for key, value in plain.items()
        if isinstance(value, int | float | str) and key not in NOT_FIGURES
    }


CATALOGUES: Mapping[str, Callable[[], list[Row]]] = {
    "models": models,
    "hardware": hardware,
    "software": software,
}


def catalogue_table(what: str, rows: Sequence[Row]) -> Table:
    """``rows`` for the terminal, large numbers in billions and GB."""
    table = Table(title=what)
    columns = dict.fromkeys(key for row in rows for key in row)
    for column in columns:
        table.add_column(heading(column), justify="left" if is_text(rows, column) else "right")
    for row in rows:
        table.add_row(*(cell(column, row.get(column)) for column in columns))
    return table


def is_text(rows: Sequence[Row], column: str) -> bool:
    """Whether ``column`` holds words."""
    return any(isinstance(row.get(column), str) for row in rows)


UNITS = (
    ("flop_per_s", "TFLOP/s", 1e12),
    ("bytes_per_s", "GB/s", GIGA),
    ("memory_bytes", "GiB", 2**30),
    ("expert_bytes", "MB", 1e6),
    ("bytes", "GB", GIGA),
    ("parameters", "billion", GIGA),
)
"""Endings of columns, and the unit and its size in which a table shows them."""


def unit_of(column: str) -> tuple[str, str, float]:
    """The ending, the unit and the unit's size of ``column``; without one: as it is."""
    return next((entry for entry in UNITS if column.endswith(entry[0])), ("", "", 1))


def heading(column: str) -> str:
    """A column's title with its unit."""
    ending, unit, _ = unit_of(column)
    kept = (
        column
        if ending in {"parameters", "memory_bytes", "expert_bytes"}
        else column.removesuffix(ending)
    )
    name = kept.removesuffix("_bytes").replace("_", " ").strip() or "size"
    return f"{name} ({unit})" if unit else name


def cell(column: str, value: Any) -> str:
    """One value of a table."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    _, unit, size = unit_of(column)
    scaled = value / size if unit else value
    return f"{scaled:,.4g}" if unit else f"{scaled:g}"
