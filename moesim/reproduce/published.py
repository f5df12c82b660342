"""What the study has published, as far as it is known to this project; nothing here is an input."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from moesim.reproduce.balance import METRICS, PLANNERS
from moesim.reproduce.measures import nodes_key
from moesim.reproduce.memory import SAVED_AT
from moesim.reproduce.settings import NODES, TASKS

PAPER = "arXiv 2303.06182"


class Published(NamedTuple):
    """A published number: where from, and in which words."""

    value: float
    source: str
    note: str = ""


def _read(value: float, note: str = "") -> Published:
    return Published(value, PAPER, note)


LATER = "read after the simulation had been judged blind"


def _later(value: float, note: str = "") -> Published:
    return _read(value, f"{note}; {LATER}" if note else LATER)


PUBLISHED: Mapping[str, Published] = MappingProxyType({
    "lm.static_over_dense_latency": _read(14.7, "1.09 s over 74.2 ms"),
    "lm.dynamic_over_static.1_node": _read(6.21),
    "lm.same_batch_gain": Published(4.0, f"{PAPER}, second hand", "1.25 to 4"),
    "lm.static_memory_gib": _read(12.59, "18.88 in all less 6.29 of activations"),
    "lm.activation_gib.static": _read(6.29),
    "lm.activation_gib.dynamic": _read(1.28),
    "lm.largest_batch.static": _read(8),
    "lm.largest_batch.dynamic": _read(64),
    "mt_decoder.buffering_saving_percent.1_slots": _read(32.2),
    "mt_decoder.buffering_saving_percent.10_slots": _read(
        12.9, "2.25 GiB, of what 32.2 % at 1 slot implies"
    ),
    "mt_decoder.buffering_saving_percent.16_slots": _read(0),
    **{f"lm.{metric}.contiguous": _read(0.6, "above 0.6") for metric in METRICS},
    **{
        f"lm.{metric}.{planner}": _read(0.4, "below 0.4")
        for metric in METRICS for planner in PLANNERS[1:]
    },
    "lm.balancing_gain_percent": _read(10.1, "up to 10.1 %"),
    "lm.dynamic_over_static.best": _later(11.55),
    "mt_encoder.dynamic_over_static.1_node": _later(5.75),
    "mt_encoder.dynamic_over_static.best": _later(10.98),
    "mt_decoder.dynamic_over_static.1_node": _later(2.58),
    "mt_decoder.dynamic_over_static.best": _later(5.71),
    "lm.dynamic_over_tutel.1_node": _later(3.32),
    "mt_encoder.dynamic_over_tutel.1_node": _later(5.33),
    "mt_decoder.dynamic_over_tutel.1_node": _later(1.88),
    "mt_decoder.buffering_over_static.1_node": _later(1.0),
    "mt_decoder.buffering_over_static.2_nodes": _later(2.21),
    "mt_decoder.buffering_over_static.4_nodes": _later(4.30),
    "mt_encoder.static_over_dense_latency": _later(22.4, "2.26 s over 101 ms"),
    "mt_decoder.static_over_dense_latency": _later(2.81, "90 over 32 ms"),
    "mt_encoder.balancing_gain_percent": _later(19.5, "up to, greedy"),
    "mt_decoder.balancing_gain_percent": _later(1.9, "up to, anti-correlation"),
    "mt.largest_batch.static": _later(48),
    "mt.largest_batch.dynamic": _later(96),
    "lm.waste_factor": _read(12.8),
    "mt.waste_factor": _read(64),
})  # fmt: skip
BLIND: Mapping[str, float] = MappingProxyType(
    {
        "lm.dynamic_over_static.best": 9.84,
        "mt_encoder.dynamic_over_static.1_node": 14.9,
        "mt_encoder.dynamic_over_static.best": 25.7,
        "mt_decoder.dynamic_over_static.1_node": 2.07,
        "mt_decoder.dynamic_over_static.best": 9.15,
        "lm.dynamic_over_tutel.1_node": 3.41,
        "mt_encoder.dynamic_over_tutel.1_node": 10.8,
        "mt_decoder.dynamic_over_tutel.1_node": 2.04,
        "mt_decoder.buffering_over_static.1_node": 2.12,
        "mt_decoder.buffering_over_static.2_nodes": 6.68,
        "mt_decoder.buffering_over_static.4_nodes": 9.15,
        "mt_encoder.static_over_dense_latency": 26.3,
        "mt_decoder.static_over_dense_latency": 2.53,
        "mt_encoder.balancing_gain_percent": 69.8,
        "mt_decoder.balancing_gain_percent": 0.000279,
        "mt.largest_batch.static": 96,
        "mt.largest_batch.dynamic": 96,
    }
)
"""What was simulated before these published numbers were read."""
ABOVE, BELOW = "above ", "below "


def ids() -> list[str]:
    """All rows of the table, in order."""
    tasks, by_nodes = list(TASKS), [nodes_key(nodes) for nodes in NODES]
    names = [f"{task}.static_over_dense_latency" for task in tasks]
    names += [f"{task}.dynamic_over_static.{at}" for task in tasks for at in (*by_nodes, "best")]
    names += [f"{task}.dynamic_over_tutel.{at}" for task in tasks for at in (by_nodes[0], "best")]
    names += [f"{task}.same_batch_gain" for task in tasks]
    names += [f"mt_decoder.buffering_over_static.{at}" for at in by_nodes]
    names += [f"{mix}.static_memory_gib" for mix in ("lm", "mt")]
    names += [f"lm.activation_gib.{gating}" for gating in ("static", "dynamic")]
    names += [
        f"{mix}.largest_batch.{gating}" for mix in ("lm", "mt") for gating in ("static", "dynamic")
    ]
    names += [f"mt_decoder.buffering_saving_percent.{slots}_slots" for slots in SAVED_AT]
    names += [f"lm.{metric}.{planner}" for metric in METRICS for planner in PLANNERS]
    names += [f"{task}.balancing_gain_percent" for task in tasks]
    return [*names, *(f"{mix}.waste_factor" for mix in ("lm", "mt"))]
