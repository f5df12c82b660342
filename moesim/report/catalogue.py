"""What there is to choose from: components by registry, models and profiles by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError, Problem, nearest
from moesim.config.plain import plain_data
from moesim.config.registry import Registry

REGISTRIES: Mapping[str, str] = {
    "policies": "moesim.memory.policies",
    "misses": "moesim.memory.misses",
    "variant_choices": "moesim.memory.choices",
    "prefetchers": "moesim.memory.prefetch",
    "gatings": "moesim.gating",
    "planners": "moesim.placement",
    "batchings": "moesim.workload.batching",
    "arrivals": "moesim.workload.arrivals",
    "lengths": "moesim.workload.lengths",
    "schedulers": "moesim.workload.serving",
    "splits": "moesim.workload.splits",
    "routers": "moesim.workload.routers",
    "importers": "moesim.trace.importers",
    "transforms": "moesim.trace.transforms",
    "measurement_importers": "moesim.calibrate.importers",
    "costs": "moesim.hardware.cost_model",
    "fitters": "moesim.hardware.fitting",
    "collectors": "moesim.calibrate.collect.ops",
    "model_families": "moesim.model.family",
    "figures": "moesim.report.figures",
    "engine_commands": "moesim.experiment.engine_commands",
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
    """The shipped machines with their datasheets' key figures: the profiles, and the GPUs that
    share one memory with a CPU.
    """
    from moesim.hardware import hardware_names, load_hardware
    from moesim.hardware.load import unified_names

    names = sorted([*hardware_names(), *unified_names()])
    return [{"name": name, **machine_row(load_hardware(name))} for name in names]


def machine_row(profile: Any) -> Row:
    """The key figures of one GPU and its wiring, which one memory has none of; rates are peaks of
    one direction.
    """
    sheet, apart = profile.datasheet, not profile.unified
    return {
        "memory_bytes": sheet.memory.value,
        "memory_bandwidth_bytes_per_s": sheet.memory_bandwidth.value,
        "fp16_flop_per_s": sheet.compute.fp16.value,
        "h2d_bytes_per_s": sheet.copies.h2d.pinned.bandwidth.value if apart else None,
        "peers_bytes_per_s": sheet.peers.bandwidth.value if apart else None,
        "unified": profile.unified,
        "gpus": profile.gpus,
        "calibrated": bool(fits := _fits(profile)),
        "fits": fits,
        "from_memory": bool(profile.unverified),
        "unverified": " ".join(profile.unverified),
        "title": profile.title,
    }


def _fits(profile: Any) -> str:
    """The kinds of fits that a profile has; none: it rests on its datasheet."""
    part = profile.calibrated
    return " ".join(kind for kind in type(part).model_fields if getattr(part, kind)) if part else ""


def software() -> list[Row]:
    """The shipped software profiles with their key figures."""
    from moesim.hardware import software_names

    return [software_row(name) for name in software_names()]


def software_row(name: str) -> Row:
    """The key figures of one shipped software profile, and the kernels of a layer of experts."""
    from moesim.hardware import load_software

    profile = load_software(name)
    counts = profile.kernels
    layer = counts.attention + counts.gate + counts.grouped + counts.combine
    return {"name": name, **key_figures(profile), "kernels_per_layer": layer}


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


def gpus() -> list[Row]:
    """The GPUs that a machine can be put together from, those of whole profiles too."""
    from moesim.hardware import gpu_names, load_hardware
    from moesim.hardware.layers import load_part, part_names

    files = part_names("gpu")
    return [
        {
            "name": name,
            **gpu_row(load_part("gpu", name) if name in files else load_hardware(name).datasheet),
        }
        for name in gpu_names()
    ]


def gpu_row(card: Any) -> Row:
    """The key figures of a GPU; rates are dense peaks, those to GPUs of one direction."""
    rates = {name: getattr(card.compute, name) for name in ("fp32", "fp16", "fp8", "fp4")}
    peers = getattr(card, "peers", None)
    joined = peers.bandwidth if peers and peers.kind == "nvlink" else getattr(card, "nvlink", None)
    own = getattr(card, "link", None) or ("one memory" if getattr(card, "host", None) else None)
    return {
        "memory_bytes": card.memory.value,
        "memory_bandwidth_bytes_per_s": card.memory_bandwidth.value,
        **{f"{name}_flop_per_s": rate.value if rate else None for name, rate in rates.items()},
        "l2_bytes": card.l2.value,
        "multiprocessors": card.multiprocessors.value,
        "link": own or f"{card.pcie.value / 1e9:g} GB/s",
        "nvlink_bytes_per_s": joined.value if joined else None,
    }


def hosts() -> list[Row]:
    """The hosts that a machine can be put together from."""
    from moesim.hardware.described.names import fitted_names
    from moesim.hardware.layers import load_part, part_names

    names = part_names("host")
    fitted = fitted_names(names)
    return [
        {"name": name, **host_row(load_part("host", name)), "fitted": name in fitted}
        for name in names
    ]


def host_row(host: Any) -> Row:
    """The key figures of a host, all NUMA nodes together; an expert's rate is of memory."""
    nodes = host.numa_nodes.value
    every = nodes / host.expert_nodes
    return {
        "memory_bytes": host.memory.value,
        "numa_nodes": nodes,
        "memory_bandwidth_bytes_per_s": nodes * host.memory_bandwidth.value,
        "expert_bytes_per_s": round(every * host.expert_bytes_per_second),
        "cores": host.cores.value,
        "core_flop_per_s": host.core_rate.value if host.core_rate else None,
    }


def links() -> list[Row]:
    """The links between a GPU and its host."""
    from moesim.hardware.layers import load_part, part_names

    return [{"name": name, **link_row(load_part("link", name))} for name in part_names("link")]


def link_row(link: Any) -> Row:
    """The key figures of a link: raw, and what copies reach by kind of host memory."""
    rates = {"bytes_per_s": link.pcie.value}
    for way in ("h2d", "d2h"):
        for kind in ("pinned", "pageable"):
            copy = getattr(getattr(link.copies, way), kind)
            rates[f"{way}_{kind}_bytes_per_s"] = copy.bandwidth.value
    return rates


def drives() -> list[Row]:
    """The drives that experts may be read from."""
    from moesim.hardware.layers import load_part, part_names

    names = part_names("storage")
    return [{"name": name, **storage_row(load_part("storage", name))} for name in names]


def storage_row(drive: Any) -> Row:
    """The key figures of a drive."""
    mapped = drive.mapped_bandwidth
    return {
        "capacity_bytes": drive.capacity.value,
        "bytes_per_s": drive.bandwidth.value,
        "latency_ns": drive.latency.value,
        "in_flight": drive.in_flight.value,
        "mapped_bytes_per_s": mapped.value if mapped else None,
    }


def near_memories() -> list[Row]:
    """The devices that compute experts in their memory."""
    from moesim.hardware.layers import load_part, part_names

    names = part_names("near_memory")
    return [{"name": name, **near_memory_row(load_part("near_memory", name))} for name in names]


def near_memory_row(device: Any) -> Row:
    """The key figures of a near-memory device, of all its units together."""
    rates = {name: getattr(device.rate, name) for name in type(device.rate).model_fields}
    return {
        "memory_bytes": device.memory.value,
        "units": device.number,
        "bytes_per_s": device.bytes_per_second,
        **{
            f"{name}_op_per_s": rate.value * device.number if rate else None
            for name, rate in rates.items()
        },
        "start_ns": device.start.value,
    }


CATALOGUES: Mapping[str, Callable[[], list[Row]]] = {
    "models": models,
    "hardware": hardware,
    "gpus": gpus,
    "hosts": hosts,
    "links": links,
    "storage": drives,
    "near_memory": near_memories,
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
        Column("memory_bytes", "memory\nGiB", GIB, ",.1f"),
        Column("memory_bandwidth_bytes_per_s", "memory\nGB/s", 1e9, ",.0f"),
        Column("fp16_flop_per_s", "fp16\nTFLOP/s", 1e12, ",.0f"),
        Column("h2d_bytes_per_s", "from host\nGB/s", 1e9, ",.1f"),
        Column("peers_bytes_per_s", "to GPUs\nGB/s", 1e9, ",.1f"),
        Column("calibrated", "fitted"),
        Column("from_memory", "from\nmemory"),
    ),
    "gpus": (
        Column("name", "gpu"),
        Column("memory_bytes", "memory\nGiB", GIB, ",.0f"),
        Column("memory_bandwidth_bytes_per_s", "memory\nGB/s", 1e9, ",.0f"),
        Column("fp16_flop_per_s", "fp16\n1e12/s", 1e12, ",.0f"),
        Column("fp8_flop_per_s", "fp8\n1e12/s", 1e12, ",.0f"),
        Column("fp4_flop_per_s", "fp4\n1e12/s", 1e12, ",.0f"),
        Column("link", "link\nat most"),
        Column("nvlink_bytes_per_s", "NVLink\nGB/s", 1e9, ",.0f"),
    ),
    "hosts": (
        Column("name", "host"),
        Column("memory_bytes", "memory\nGiB", GIB, ",.0f"),
        Column("numa_nodes", "NUMA"),
        Column("memory_bandwidth_bytes_per_s", "peak\nGB/s", 1e9, ",.1f"),
        Column("expert_bytes_per_s", "experts\nGB/s", 1e9, ",.1f"),
        Column("cores", "cores"),
        Column("fitted", "fitted"),
    ),
    "links": (
        Column("name", "link"),
        Column("bytes_per_s", "raw\nGB/s", 1e9, ",.1f"),
        Column("h2d_pinned_bytes_per_s", "from host\nGB/s", 1e9, ",.1f"),
        Column("d2h_pinned_bytes_per_s", "to host\nGB/s", 1e9, ",.1f"),
        Column("h2d_pageable_bytes_per_s", "pageable from\nGB/s", 1e9, ",.1f"),
        Column("d2h_pageable_bytes_per_s", "pageable to\nGB/s", 1e9, ",.1f"),
    ),
    "storage": (
        Column("name", "storage"),
        Column("capacity_bytes", "capacity\nTB", 1e12, ",g"),
        Column("bytes_per_s", "reads\nGB/s", 1e9, ",.2f"),
        Column("latency_ns", "latency\nus", 1e3),
        Column("in_flight", "in\nflight"),
        Column("mapped_bytes_per_s", "page faults\nGB/s", 1e9, ",.2f"),
    ),
    "near_memory": (
        Column("name", "device"),
        Column("memory_bytes", "memory\nGB", 1e9, ",g"),
        Column("units", "units"),
        Column("bytes_per_s", "reads\nGB/s", 1e9, ",.0f"),
        Column("bf16_op_per_s", "bf16\n1e12/s", 1e12, ",.2f"),
        Column("int8_op_per_s", "int8\n1e12/s", 1e12, ",.2f"),
        Column("start_ns", "start\nus", 1e3),
    ),
    "software": (
        Column("name", "software"),
        Column("title", "what it is"),
        Column("kernels_per_layer", "kernels\na layer"),
        Column("launch_ns", "launch\nus", 1e3),
        Column("synchronisations", "waits\na layer"),
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
    "hardware": "of one GPU, one direction; -: one memory with the CPU; from memory: not compared "
    "with a document; a GPU of 'moesim list gpus' alone is a machine, too; --json: all",
    "gpus": "dense peaks; NVLink or Infinity Fabric: one GPU and direction; more: --json",
    "hosts": "of all NUMA nodes together; experts: what those on the CPU read (one GPU's have one "
    "node's part); fitted: to one published run; --json: all",
    "links": "one direction, what copies reach of pinned memory, and of pageable",
    "software": "kernels of a layer of experts with one token; waits: the host for the GPU, where "
    "experts are offloaded; all values: --json",
    "traces": "a smaller top-k than the model's: recorded so; source, licence, notes: --json",
}


WIDTH = 80
"""Columns of the narrowest terminal."""
_APART = 2
FOLDED = ("title",)
"""Columns that take as many lines as they need."""


def _width(rows: Sequence[Row], column: Column) -> int:
    """Of a column and what stands before the next one."""
    if column.key in FOLDED:
        return 0
    cells = [*column.heading.split("\n"), *(column.cell(row) for row in rows)]
    return max(map(len, cells)) + _APART


def catalogue_table(what: str, rows: Sequence[Row]) -> Table:
    """``rows`` for the terminal, names whole (they are what an experiment has to write)."""
    keys = dict.fromkeys(key for row in rows for key in row)
    columns = COLUMNS.get(what) or [Column(key, key) for key in keys]
    padding = 1 if sum(map(partial(_width, rows), columns)) <= WIDTH else 0
    table = Table(
        caption=CAPTIONS.get(what), box=SIMPLE_HEAD, show_edge=False, pad_edge=False,
        padding=(0, padding, 0, 0), caption_justify="left",
    )  # fmt: skip
    for column in columns:
        words = any(isinstance(row.get(column.key), str | bool) for row in rows)
        table.add_column(
            column.heading,
            justify="left" if words else "right",
            overflow="fold",
            no_wrap=column.key == "name" or (what in COLUMNS and column.key not in FOLDED),
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table
