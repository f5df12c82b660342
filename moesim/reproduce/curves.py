"""What the figures are drawn from: rows at the defaults, of the middle domain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from moesim.config.amounts.sizes import GIB
from moesim.model import load_model
from moesim.reproduce.balance import METRICS, PLANNERS, planned
from moesim.reproduce.memory import weights_bytes
from moesim.reproduce.settings import MOST_SLOTS, Setting, Task
from moesim.reproduce.study import Study

Row = Mapping[str, Any]
MIDDLE = 1
COMPARED = ("static", "tutel", "dynamic")
POLICIES = ("lifo", "fifo", "lru", "min")
MS = 1e-6


def latency_breakdown(study: Study, task: Task) -> Iterator[Row]:
    """Milliseconds of a batch by category, gating and node count."""
    for nodes in study.nodes:
        for gating in ("dense", *COMPARED):
            timed = study.time(Setting(task.name, gating, task.batch, nodes, MIDDLE))
            parts = dict(timed.charges)
            parts["idle"] = max(0.0, timed.batch_ns - sum(parts.values()))
            at = {"task": task.name, "nodes": nodes, "gating": gating}
            yield from ({**at, "category": name, "ms": ns * MS} for name, ns in parts.items())


def throughput_over_batch(study: Study, task: Task) -> Iterator[Row]:
    """Sentences a second on one node, up to the largest batch that fits."""
    for gating in COMPARED:
        largest = study.largest(task, gating, 1, MIDDLE)
        for batch in task.batches:
            if batch <= largest.batch:
                rate = study.throughput(replace(largest, batch=batch))
                yield {"task": task.name, "gating": gating, "batch": batch, "sentences_per_s": rate}


def memory(study: Study, task: Task) -> Iterator[Row]:
    """GiB of a GPU by category, at the batch of the latencies, on one node."""
    for gating in COMPARED:
        parts = study.memory(Setting(task.name, gating, task.batch, 1, MIDDLE))
        for part, size in parts.items():
            yield {"task": task.name, "gating": gating, "part": part, "gib": size / GIB}


def miss_rate_over_slots(study: Study, task: Task) -> Iterator[Row]:
    """Misses over activations by policy, with warm caches."""
    for policy in POLICIES:
        for slots in range(1, MOST_SLOTS + 1):
            timed = _buffered(study, task, policy, slots)
            yield {"policy": policy, "slots": slots, "miss_rate": timed.miss_rate}


def memory_and_latency(study: Study, task: Task) -> Iterator[Row]:
    """Weights of a GPU and latency of a batch, by slots."""
    model = load_model(task.model)
    for policy in ("lifo", "lru"):
        for slots in range(1, MOST_SLOTS + 1):
            size = weights_bytes(model, slots) / GIB
            timed = _buffered(study, task, policy, slots)
            found = {"weights_gib": size, "latency_ms": timed.batch_ns * MS}
            yield {"policy": policy, "slots": slots, **found}


def _buffered(study: Study, task: Task, policy: str, slots: int) -> Any:
    batch = study.largest(task, "dynamic", 1, MIDDLE).batch
    setting = Setting(task.name, "dynamic", batch, 1, MIDDLE, slots=slots, policy=policy, batches=2)
    return study.time(setting, warm=1)


def load_by_planner(study: Study, task: Task) -> Iterator[Row]:
    """The largest GPU's share by domain and planner."""
    for domain in study.domains("load"):
        runs = planned(study, task, domain)
        for planner in PLANNERS:
            found = runs[planner].balance or {}
            at = {"domain": study.name(task, domain), "planner": planner}
            yield from ({**at, "metric": metric, "share": found[metric]} for metric in METRICS)


CURVES: Mapping[str, tuple[Callable[[Study, Task], Iterator[Row]], tuple[str, ...]]]
CURVES = MappingProxyType({
    "latency_breakdown": (latency_breakdown, ("lm", "mt_encoder", "mt_decoder")),
    "throughput_over_batch": (throughput_over_batch, ("lm", "mt_encoder", "mt_decoder")),
    "memory": (memory, ("lm", "mt_encoder", "mt_decoder")),
    "miss_rate_over_slots": (miss_rate_over_slots, ("mt_decoder",)),
    "memory_and_latency": (memory_and_latency, ("mt_decoder",)),
    "load_by_planner": (load_by_planner, ("lm",)),
})  # fmt: skip
"""By figure, its rows and the tasks that it shows."""
