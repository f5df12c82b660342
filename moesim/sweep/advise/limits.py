"""What a run waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from moesim.hardware import CostModel, HardwareProfile
from moesim.hardware.charge import WAITING_FOR_STORAGE
from moesim.model.spec import ModelSpec
from moesim.sweep.advise.upgrades import cores, dram

Limit = Literal[
    "link", "drive", "CPU", "DRAM", "near memory", "software", "kernels", "attention", "other GPUs",
    "idle time", "arrivals",
]  # fmt: skip
Computes = Literal["CPU", "DRAM", "near memory"]
"""What limits whatever computes experts beside the GPUs."""
CAUSES: Mapping[Limit, tuple[str, ...]] = {
    "link": ("waiting_for_weights",),
    "drive": (WAITING_FOR_STORAGE,),
    "CPU": ("waiting_for_cpu",),
    "kernels": ("experts", "gate", "dispatch_combine"),
    "attention": ("attention",),
    "software": ("host",),
    "other GPUs": ("waiting_for_gpus",),
    "idle time": ("idle",),
}
"""The keys of ``time_share`` that each limit adds up."""
MEANING: Mapping[Limit, str] = {
    "link": "waits for weights",
    "drive": "waits for experts that are read from the drive",
    "CPU": "waits for experts that the CPU computes",
    "DRAM": "waits for experts that the CPU reads from DRAM",
    "near memory": "waits for experts that the near-memory device computes",
    "kernels": "goes to kernels of experts and gates, and to moving their rows",
    "attention": "goes to attention, its projections and the head",
    "software": "goes to the software's own work",
    "other GPUs": "waits for other GPUs",
    "idle time": "passes idle",
    "arrivals": "passes before a request is there: they come more slowly than they are answered",
}
"""What a share of the time does, for a sentence."""


def limits(
    time_share: Mapping[str, float],
    host: Computes = "CPU",
    *,
    served: bool = False,
) -> dict[Limit, float]:
    """Shares of the GPUs' time by what limits it, the largest first; none is 0.

    ``host``: what limits what computes beside the GPUs where they wait for it; ``served``: whether
    requests come and go, so that idle GPUs wait for the next.
    """
    told: dict[Limit, Limit] = {"CPU": host, "idle time": "arrivals" if served else "idle time"}
    shares = {
        told.get(name, name): sum(time_share.get(key) or 0.0 for key in keys)
        for name, keys in CAUSES.items()
    }
    known = [(name, share) for name, share in shares.items() if share > 0]
    return dict(sorted(known, key=lambda pair: -pair[1]))


def host_limit(
    hardware: HardwareProfile, model: ModelSpec, rows: int, gpus_per_node: int = 1
) -> Computes:
    """Which doubled shortens an expert with ``rows`` rows on the host more: the cores or the
    DRAM's bandwidth.
    """
    layer = model.moe_layers[0]

    def price(machine: HardwareProfile) -> int:
        prices = CostModel(machine, model, gpus_per_node=gpus_per_node)
        return int(prices.cpu_expert_ns(layer, rows))

    return "DRAM" if price(dram(hardware, 2)) < price(cores(hardware, 2)) else "CPU"


def mean_rows(summary: Mapping[str, Any], layers: int, top_k: int) -> int:
    """Rows of an expert in a step, on average, from a run's ``summary``: 1 at least."""
    activations = summary["hits"] + summary["misses"]
    return max(1, round(summary["tokens"] * layers * top_k / activations)) if activations else 1
