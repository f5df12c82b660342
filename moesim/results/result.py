"""One run's outcome: its numbers, its tables, and what it takes to run it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import pandas as pd
from pydantic import BaseModel

from moesim.config.amounts.sizes import GIB
from moesim.results.shown import Shown

STEPS = (
    "step", "phase", "start_ns", "end_ns", "tokens", "decode_tokens", "live_requests",
    "activations", "hits", "late", "misses", "accesses", "access_hits", "bytes_h2d", "stall_ns",
    "barrier_ns", "cpu_wait_ns", "attention_ns", "gate_ns", "dispatch_combine_ns", "experts_ns",
    "host_ns",
)  # fmt: skip
LAYERS = (
    "step", "layer", "gpu", "tokens", "distinct_experts", "hits", "late", "misses",
    "start_ns", "end_ns", "stall_ns", "barrier_ns",
)  # fmt: skip
REQUESTS = (
    "request_id", "tpot_ms", "ttft_ms", "ttft_attention_ms",
    "ttft_gate_ms", "ttft_dispatch_combine_ms", "ttft_experts_ms", "ttft_host_ms",
    "ttft_waiting_for_weights_ms", "ttft_waiting_for_gpus_ms", "ttft_waiting_for_cpu_ms",
)  # fmt: skip
MEMORY_CATEGORIES = (
    "weights", "kv_cache", "activations", "masks", "all_to_all_buffers", "expert_slots",
    "copies_in_flight",
)  # fmt: skip
HELD_CATEGORIES = ("position_tables", "allocator_blocks", "communication_buffers")
"""Further ones, of software whose profile names what it holds of them."""
MEMORY = ("time_ns", *MEMORY_CATEGORIES, "host_bytes", "capacity_bytes")
BLOCKS = (
    "first_step", "steps", "duration_ns", "tokens", "decode_tokens", "activations", "hits",
    "accesses", "access_hits", "timed_requests", "tpot_ns",
)  # fmt: skip
OPERATIONS = (
    "charge", "operation", "time_ns",
    "measured_ns", "interpolated_ns", "fitted_ns", "datasheet_ns", "outside_ns",
)  # fmt: skip
SPANS = (
    "gpu", "engine", "name", "category", "start_ns", "end_ns", "step", "layer", "experts", "bytes",
)  # fmt: skip
SLOTS = ("gpu", "time_ns", "experts")
ENTRIES = ("step", "request_id", "first_token", "tokens", "decodes")
ITL = ("request_id", "step", "itl_ns", "with_prompts")

TABLES: Mapping[str, tuple[str, ...]] = {
    "steps": STEPS,
    "layers": LAYERS,
    "requests": REQUESTS,
    "memory": MEMORY,
    "operations": OPERATIONS,
    "blocks": BLOCKS,
    "spans": SPANS,
    "slots": SLOTS,
    "itl": ITL,
    "entries": ENTRIES,
}
"""The tables of a result and the columns that each has at least; times in ns, memory in bytes."""

TEXTS: Mapping[str, tuple[str, ...]] = {
    "steps": ("phase",),
    "operations": ("charge", "operation"),
    "spans": ("engine", "name", "category", "experts"),
}
"""The columns of these tables that hold text; all others hold numbers."""

OPTIONAL = ("operations", "blocks", "spans", "slots", "itl", "entries")
"""The tables that have a file only where they have rows."""

TIME_SHARES = (
    "attention", "gate", "dispatch_combine", "experts", "host", "waiting_for_weights",
    "waiting_for_gpus", "waiting_for_cpu", "idle",
)  # fmt: skip
"""The keys of the summary's ``time_share``, in the order in which they are shown."""


def memory_categories(table: pd.DataFrame) -> list[str]:
    """The categories that the columns of the ``memory`` table are."""
    return [name for name in (*MEMORY_CATEGORIES, *HELD_CATEGORIES) if name in table.columns]


@lru_cache
def _empty(name: str) -> pd.DataFrame:
    texts = TEXTS.get(name, ())
    kinds = {column: "str" if column in texts else "float64" for column in TABLES[name]}
    return pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in kinds.items()})


def empty_table(name: str) -> pd.DataFrame:
    """The table ``name`` without rows, for what a run did not record."""
    return _empty(name).copy()


@dataclass(frozen=True, eq=False, repr=False)
class Result(Shown):
    """What a run found out.

    ``summary`` holds the numbers (``status`` is ``ok``, ``out_of_memory`` or ``failed``);
    ``steps``, ``layers``, ``requests``, ``memory``, ``operations``, ``blocks``, ``spans``,
    ``slots``, ``itl`` and ``entries`` are tables with the columns of ``TABLES``; ``experiment`` is
    the resolved experiment (after ``read_result``: plain values).
    """

    summary: dict[str, Any]
    experiment: BaseModel | Mapping[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    steps: pd.DataFrame = field(default_factory=lambda: empty_table("steps"))
    layers: pd.DataFrame = field(default_factory=lambda: empty_table("layers"))
    requests: pd.DataFrame = field(default_factory=lambda: empty_table("requests"))
    memory: pd.DataFrame = field(default_factory=lambda: empty_table("memory"))
    operations: pd.DataFrame = field(default_factory=lambda: empty_table("operations"))
    blocks: pd.DataFrame = field(default_factory=lambda: empty_table("blocks"))
    spans: pd.DataFrame = field(default_factory=lambda: empty_table("spans"))
    slots: pd.DataFrame = field(default_factory=lambda: empty_table("slots"))
    itl: pd.DataFrame = field(default_factory=lambda: empty_table("itl"))
    entries: pd.DataFrame = field(default_factory=lambda: empty_table("entries"))

    @property
    def status(self) -> str:
        """``ok``, ``out_of_memory`` or ``failed``."""
        return str(self.summary["status"])

    @property
    def configuration(self) -> dict[str, Any]:
        """The resolved experiment as plain values that YAML and JSON hold."""
        return plain_experiment(self.experiment)

    def __repr__(self) -> str:
        head = f"Result {self.summary.get('name')}: {self.status.replace('_', ' ')}"
        lines = [setting_in_words(self.configuration), *_numbers_in_words(self.summary)]
        return "\n".join([head, *(f"  {line}" for line in lines if line)])


def plain_experiment(experiment: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """``experiment`` as plain values, every default written out."""
    if isinstance(experiment, BaseModel):
        return experiment.model_dump(mode="json")
    return dict(experiment)


def setting_in_words(experiment: Mapping[str, Any], without: Iterable[str] = ()) -> str:
    """Model, GPUs, trace and batch of a plain ``experiment``, apart from the paths ``without``:
    ``gpt-oss-20b on rtx-4090, quickstart, batch 1``, or ``on 8 GPUs of h100-sxm``.
    """
    from moesim.hardware.choice import is_choice, words

    batching = (experiment.get("workload") or {}).get("batching") or {}
    card, batch = str(experiment.get("hardware") or ""), batching.get("batch_size")
    hidden = set(without)
    if "model" in hidden:  # each has a trace of its own
        hidden.add("trace")
    own = [path.removeprefix("hardware.") for path in hidden]
    card = words(card, own) if is_choice(card) else _file_name(card)
    parts = {
        "model": _file_name(experiment.get("model")),
        "hardware": card and f"on {_gpus_in_words(experiment, hidden)}{card}",
        "trace": _file_name(experiment.get("trace")),
        "workload.batching.batch_size": batch and f"batch {batch}",
    }
    told = [str(text) for path, text in parts.items() if text and path not in hidden]
    return ", ".join(told).replace(", on ", " on ")


_APART = "serving.disaggregation"
INSTANCES = {"serving", "serving.replicas", _APART, f"{_APART}.prefill", f"{_APART}.decode"}
GPUS = {"parallelism", "parallelism.expert", "parallelism.pipeline"}
"""The paths that say how many instances there are, and how many GPUs each has."""


def _gpus_in_words(experiment: Mapping[str, Any], hidden: Iterable[str]) -> str:
    """``8 GPUs of ``, of instances ``2 x 8 GPUs of ``; nothing of one GPU, and of numbers that
    vary.
    """
    layout, serving = experiment.get("parallelism") or {}, experiment.get("serving") or {}
    apart = serving.get("disaggregation")
    instances = apart["prefill"] + apart["decode"] if apart else serving.get("replicas") or 1
    gpus = (layout.get("expert") or 1) * (layout.get("pipeline") or 1)
    varies = set(hidden)
    instances = 1 if varies & INSTANCES else instances
    gpus = 1 if varies & GPUS else gpus
    times = f"{instances} x " if instances > 1 else ""
    return times + (f"{gpus} GPUs of " if gpus > 1 else "")


def _file_name(name: Any) -> str:
    """The name of a thing that is shipped, or of its file without the ending: ``config.json`` is
    called as its folder is.
    """
    path = PurePath(str(name or ""))
    if path.name == "config.json" and path.parent.name:
        return path.parent.name
    known = path.suffix in (".parquet", ".json", ".yaml", ".yml")
    return path.stem if known else path.name


def _numbers_in_words(summary: Mapping[str, Any]) -> Iterator[str]:
    """Speed, hits, losses and memory of a run, where they are known; or why it has no numbers."""
    if summary.get("reason"):
        yield str(summary["reason"])
    get = summary.get
    speed = [
        f"{get(name):.4g} {unit}"
        for name, unit in (("output_throughput", "tokens/s"), ("mean_ttft_ms", "ms TTFT"),
                           ("mean_tpot_ms", "ms TPOT"))
        if get(name)
    ]  # fmt: skip
    if speed:
        yield ", ".join(speed)
    if get("hit_ratio_per_expert") is not None:
        slots = get("slots_per_layer")
        hits = f"{100 * summary['hit_ratio_per_expert']:.1f} % of experts hit"
        yield hits if slots is None else f"{hits}, {slots} slots per layer"
    if get("layers_on_cpu") or get("layers_on_cpu_auto"):
        auto = "auto: " if get("layers_on_cpu_auto") else ""
        yield f"{auto}{get('layers_on_cpu')} of {get('moe_layers')} layers' experts on the CPU"
    if get("dropped_share"):
        yield f"{100 * summary['dropped_share']:.2g} % of choices dropped"
    if get("skipped_share"):
        yield f"{100 * summary['skipped_share']:.2g} % of choices skipped{_weighed(summary)}"
    if get("peak_memory_bytes"):
        yield f"peak memory {summary['peak_memory_bytes'] / GIB:.2f} GiB"


def _weighed(summary: Mapping[str, Any]) -> str:
    """How much gate weight skipped choices have, where that is known."""
    weight = summary.get("skipped_gate_weight_share")
    return "" if weight is None else f", {100 * weight:.2g} % of gate weight"
