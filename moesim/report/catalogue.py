"""What there is to choose from: components by registry, models and profiles by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.config.errors import InputError, Problem, nearest
from moesim.config.plain import plain_data
from moesim.config.registry import Registry

REGISTRIES: Mapping[str, str] = {
    "policies": "moesim.memory.policies",
    "misses": "moesim.memory.misses",
    "prefetchers": "moesim.memory.prefetch",
    "gatings": "moesim.gating",
    "planners": "moesim.placement",
    "batchings": "moesim.workload.batching",
    "importers": "moesim.trace.importers",
    "measurement_importers": "moesim.calibrate.importers",
    "costs": "moesim.hardware.cost_model",
    "fitters": "moesim.hardware.fitting",
    "collectors": "moesim.calibrate.collect.ops",
    "model_families": "moesim.model.family",
    "figures": "moesim.report.figures",
}
"""The modules whose ``registry`` holds the components of a kind."""

Row = dict[str, Any]
NOT_FIGURES = ("name", "source", "sources", "notes", "kind", "date")


def listing(what: str) -> list[Row]:
    """Name and key figures of everything of the kind ``what``; an InputError for another kind."""
    if what in REGISTRIES:
        return components(importlib.import_module(REGISTRIES[what]).registry)
    if what in CATALOGUES:
        return CATALOGUES[what]()
    known = [*REGISTRIES, *CATALOGUES]
    if not what:
        raise InputError([Problem("list", "", f"say what; {nearest(what, known)}")])
    raise InputError([Problem("list", "", f"'{what}' cannot be listed; {nearest(what, known)}")])


def components(registry: Registry[Any]) -> list[Row]:
    """The registered components, each with the first line of its docstring."""
    return [
        {"name": kind, "description": first_line(component)}
        for kind, component in registry.components.items()
    ]


def first_line(documented: object) -> str:
    """The first paragraph of a docstring as one line, without its full stop."""
    text = inspect.getdoc(documented) or ""
    return " ".join(text.partition("\n\n")[0].split()).rstrip(".")


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
        "calibrated": bool(fits := _fits(profile)),
        "fits": fits,
        "title": profile.title,
    }


def _fits(profile: Any) -> str:
    """The kinds of fits that a profile has; none: it rests on its datasheet."""
    part = profile.calibrated
    return " ".join(kind for kind in type(part).model_fields if getattr(part, kind)) if part else ""


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


def traces() -> list[Row]:
    """The shipped traces with their tokens, and the top-k of their model beside theirs."""
    from moesim.trace.cards import card_names

    return [{"name": name, **trace_row(name)} for name in card_names()]


def trace_row(name: str) -> Row:
    """The key figures of one shipped trace."""
    from moesim.model import load_model, model_names
    from moesim.trace import Phase, read_trace

    trace = read_trace(name)
    known = trace.metadata.model in model_names()
    moe = load_model(str(trace.metadata.model)).moe_layers[0].moe if known else None
    return {
        "model": trace.metadata.model,
        "requests": trace.requests,
        "prompt_tokens": int((trace.phase == Phase.PREFILL).sum()),
        "decode_tokens": int((trace.phase == Phase.DECODE).sum()),
        "moe_layers": trace.moe_layers,
        "experts": trace.experts,
        "top_k": trace.top_k,
        "model_top_k": moe.top_k if moe else None,
        "source": trace.metadata.source,
        "licence": trace.metadata.licence,
        "notes": trace.metadata.notes,
    }


CATALOGUES: Mapping[str, Callable[[], list[Row]]] = {
    "models": models,
    "hardware": hardware,
    "software": software,
    "traces": traces,
}


@dataclass(frozen=True)
class Column:
    """A column of a table: the key, the heading (its last line the unit), the unit's size."""

    key: str
    heading: str
    size: float = 1
    form: str = ",g"

    def cell(self, row: Row) -> str:
        """The value of ``row``; a dash for none."""
        value = row.get(self.key)
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, str):
            return value
        return "-" if value is None else format(value / self.size, self.form)


COLUMNS: Mapping[str, Sequence[Column]] = {
    "models": (
        Column("name", "model"),
        Column("parameters", "weights\n1e9", 1e9, ",.1f"),
        Column("active_parameters", "active\n1e9", 1e9, ",.1f"),
        Column("bytes", "size\nGB", 1e9, ",.1f"),
        Column("moe_layers", "MoE\nlayers"),
        Column("experts", "experts\na layer"),
        Column("top_k", "top-k"),
        Column("expert_bytes", "expert\nMB", 1e6, ",.1f"),
    ),
    "hardware": (
        Column("name", "hardware"),
        Column("gpus", "GPUs"),
        Column("memory_bytes", "memory\nGiB", 2**30, ",.1f"),
        Column("memory_bandwidth_bytes_per_s", "memory\nGB/s", 1e9, ",.0f"),
        Column("fp16_flop_per_s", "fp16\nTFLOP/s", 1e12, ",.0f"),
        Column("h2d_bytes_per_s", "from host\nGB/s", 1e9, ",.1f"),
        Column("peers_bytes_per_s", "to GPUs\nGB/s", 1e9, ",.1f"),
        Column("calibrated", "fitted"),
    ),
    "software": (
        Column("name", "software"),
        Column("launch_ns", "launch\nus", 1e3),
        Column("host_per_layer_ns", "a layer\nus", 1e3),
        Column("host_per_copy_ns", "a copy\nus", 1e3),
        Column("copied", "copied\nby"),
        Column("pinned", "pinned"),
        Column("blocking", "blocks"),
        Column("synchronisations", "waits\na layer"),
        Column("synchronisation_ns", "a wait\nus", 1e3),
    ),
    "traces": (
        Column("name", "trace"),
        Column("requests", "requests"),
        Column("prompt_tokens", "prompt\ntokens"),
        Column("decode_tokens", "decoded\ntokens"),
        Column("moe_layers", "MoE\nlayers"),
        Column("experts", "experts\na layer"),
        Column("top_k", "top-k"),
        Column("model_top_k", "the model's\ntop-k"),
    ),
}
"""What a table of 80 columns shows of a catalogue; ``--json`` has everything."""

CAPTIONS: Mapping[str, str] = {
    "models": "size and expert as stored; all values: --json",
    "hardware": "of one GPU, one direction; GPUs -: 1 to 8; more: --json",
    "software": "times of the host; all values: --json",
    "traces": "a smaller top-k than the model's: recorded so; source, licence, notes: --json",
}


def catalogue_table(what: str, rows: Sequence[Row]) -> Table:
    """``rows`` for the terminal, names whole (they are what an experiment has to write)."""
    table = Table(
        caption=CAPTIONS.get(what), box=SIMPLE_HEAD, show_edge=False, pad_edge=False,
        padding=(0, 1, 0, 0), caption_justify="left",
    )  # fmt: skip
    keys = dict.fromkeys(key for row in rows for key in row)
    columns = COLUMNS.get(what) or [Column(key, key) for key in keys]
    for column in columns:
        words = any(isinstance(row.get(column.key), str | bool) for row in rows)
        table.add_column(
            column.heading,
            justify="left" if words else "right",
            overflow="fold",
            no_wrap=column.key == "name",
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table
