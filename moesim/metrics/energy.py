"""Joules, grams and dollars of a run, from what it charged and moved: the clock knows nothing of
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import fsum
from typing import Any

import numpy as np

from moesim.config.counted import counted
from moesim.engine.case import Case, Ints
from moesim.engine.counts import Counts, layer_bytes_to_gpus
from moesim.engine.outcome import Outcome
from moesim.hardware.described.price_list import PriceList
from moesim.hardware.energy import Energy, Powers, powers_of
from moesim.hardware.profile import HardwareProfile
from moesim.model.spec import LayerSpec

SECOND, HOUR, JOULES_PER_KWH = 1e9, 3600.0, 3.6e6
MILLION = 1_000_000
ENERGY_KEYS = (
    "energy_j", "gpu_energy_j", "total_energy_j", "mean_power_w", "joules_per_output_token",
    "joules_per_token",
)  # fmt: skip
CARBON_KEYS = ("carbon_g", "carbon_g_per_million_output_tokens", "carbon_g_per_million_tokens")
COST_KEYS = ("cost_usd", "cost_usd_per_million_output_tokens", "cost_usd_per_million_tokens")
GOOD_COST = "cost_usd_per_million_good_tokens"


@dataclass(frozen=True)
class Span:
    """Passes ``first`` and later of a run: ``seconds`` of its clock, ``gpu_seconds`` of all GPUs,
    and of them those that were charged, by category; tokens.
    """

    first: int
    seconds: float
    gpu_seconds: float
    charged: dict[str, float]
    output_tokens: int
    tokens: int

    @classmethod
    def of(cls, case: Case, outcome: Outcome, first: int) -> Span:
        """Of an ``outcome`` of ``case``."""
        begin = int(outcome.ends[first - 1].max()) if first else 0
        begun = int(outcome.ends[first - 1].sum()) if first else 0
        seconds = (outcome.duration_ns - begin) / SECOND
        # GPUs that hold further stages count as one on the clock, and wait while another works
        stages = max(len(case.stages), 1)
        own = (case.gpus * outcome.duration_ns - begun) / SECOND
        charged = outcome.charges[first:].sum(axis=(0, 1)) / SECOND
        return cls(
            first,
            seconds,
            own + (stages - 1) * seconds,
            dict(zip(outcome.categories, charged.tolist(), strict=True)),
            int(case.schedule.answer_tokens()[first:].sum()),
            int(case.schedule.output_tokens()[first:].sum()),
        )


def works(category: str) -> bool:
    """Whether a GPU computes, or communicates, in what is charged to ``category``."""
    return category != "host" and not category.startswith("waiting_for_")


@dataclass(frozen=True)
class Bill:
    """Makes the numbers of runs on ``hardware``; of what is None there are none."""

    hardware: HardwareProfile
    energy: Energy | None
    cost: PriceList | None

    @property
    def powers(self) -> Powers:
        """What the machine draws."""
        return powers_of(self.energy or Energy(), self.hardware)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of ``numbers``."""
        energy, cost = self.energy, self.cost
        carbon = energy is not None and (energy.carbon is not None or energy.embodied is not None)
        return (
            *(ENERGY_KEYS if energy is not None else ()),
            *(CARBON_KEYS if carbon else ()),
            *(COST_KEYS if cost is not None else ()),
        )

    def by_layer(self, case: Case) -> bool:
        """Whether its numbers are those of counts by layer: of experts that the CPU computes."""
        return bool(self.keys) and case.miss.uses_host

    def notes(self, case: Case) -> dict[str, list[str]]:
        """What the numbers rest on, what they leave out, and who is charged for a server."""
        if self.energy is None and not (self.cost and self.cost.electricity is not None):
            return {}
        return {"energy_notes": [*self.powers.notes(), *self._whole_node(case)]}

    def _whole_node(self, case: Case) -> list[str]:
        """That some of a server's GPUs are charged what all of them share."""
        hardware, gpus = self.hardware, case.gpus * max(len(case.stages), 1) // case.nodes
        there = len(hardware.topology.gpus) if hardware.topology else 0
        shared = [
            part for part in ("cpu", "dram", "storage", "other") if getattr(self.powers, part)
        ]
        if not shared or gpus >= max(there, hardware.host.numa_nodes.value):
            return []
        what = f"{', '.join(shared)}: those of the whole server, charged to"
        who = f"{counted(gpus, 'GPU')} of {there}" if there else counted(gpus, "GPU")
        return [f"{what} {who}; write your GPUs' share of them, as in energy: {{dram: 0.01 W/GB}}"]

    def numbers(self, case: Case, outcome: Outcome, first: int) -> dict[str, Any]:
        """Of passes ``first`` and later: joules by part and in all, of the GPUs by what they did;
        grams of CO2 and dollars by where they come from; each by token too.
        """
        if not self.keys:
            return {}
        span = Span.of(case, outcome, first)
        gpu = _gpu_joules(span, self.powers)
        parts = _joules(case, outcome, span, self.powers, self.hardware)
        joules = ({"gpu": fsum(gpu.values())} if gpu else {}) | parts
        total = fsum(joules.values())
        found: dict[str, Any] = {}
        if self.energy is not None:
            found |= {
                "energy_j": joules,
                "gpu_energy_j": gpu,
                "total_energy_j": total,
                "mean_power_w": _ratio(total, span.seconds),
                "joules_per_output_token": _ratio(total, span.output_tokens),
                "joules_per_token": _ratio(total, span.tokens),
            }
            found |= _by_token("carbon_g", self._grams(span, total), span)
        if self.cost is not None:
            found |= _by_token("cost_usd", self._dollars(case, span, total), span)
        return found

    @staticmethod
    def of_good(numbers: dict[str, Any], good_tokens: int | None) -> dict[str, float | None]:
        """What is paid for all, of a million output tokens of requests that keep every limit; None
        where none does, nothing where nothing is promised or paid.
        """
        if good_tokens is None or (paid := numbers.get("cost_usd")) is None:
            return {}
        return {GOOD_COST: _ratio(fsum(paid.values()) * MILLION, good_tokens)}

    def _grams(self, span: Span, joules: float) -> dict[str, float] | None:
        """CO2 of the electricity, and of making what it went through."""
        assert self.energy is not None
        grams: dict[str, float] = {}
        energy = self.energy
        if energy.carbon is not None:
            grams["electricity"] = joules / JOULES_PER_KWH * energy.carbon
        if energy.embodied is not None and energy.life:
            grams["embodied"] = energy.embodied * span.seconds / HOUR / energy.life
        return grams or None

    def _dollars(self, case: Case, span: Span, joules: float) -> dict[str, float] | None:
        """Rent, shares of what was bought, and electricity."""
        assert self.cost is not None
        cost, dollars = self.cost, dict[str, float]()
        hours = span.seconds / HOUR
        gpus = case.gpus * max(len(case.stages), 1)
        if cost.gpu is not None:
            dollars["rent"] = cost.gpu * gpus * hours
        for name, price, count in (("card", cost.card, gpus), ("host", cost.host, case.nodes)):
            if price is not None and cost.life:
                dollars[name] = price * count * hours / cost.life
        if cost.electricity is not None:
            dollars["electricity"] = joules / JOULES_PER_KWH * cost.electricity
        return dollars or None


def _gpu_joules(span: Span, powers: Powers) -> dict[str, float]:
    """Of all GPUs by what their time was charged to, and idle."""
    if powers.gpu is None:
        return {}
    busy, waiting = (figure.value for figure in powers.gpu)
    joules = {
        category: seconds * (busy if works(category) else waiting)
        for category, seconds in span.charged.items()
    }
    return joules | {"idle": (span.gpu_seconds - fsum(span.charged.values())) * waiting}


def _joules(
    case: Case, outcome: Outcome, span: Span, powers: Powers, hardware: HardwareProfile
) -> dict[str, float]:
    """Of all parts but the GPUs."""
    node_seconds, joules = case.nodes * span.seconds, {}
    working = {"cpu": cpu_seconds, "storage": storage_seconds}
    for part, seconds in working.items():
        if (both := getattr(powers, part)) is not None:
            busy, idle = (figure.value for figure in both)
            extra = (busy - idle) * seconds(case, outcome, span.first, hardware)
            joules[part] = idle * node_seconds + extra
    if powers.dram is not None:
        joules["dram"] = powers.dram.value * hardware.host.memory.value * node_seconds
    if powers.link is not None:
        read = outcome.counts.expert_bytes_to_gpus(case) + layer_bytes_to_gpus(case)
        joules["link"] = powers.link.value * float(read[span.first :].sum())
    if powers.other is not None:
        joules["other"] = powers.other.value * node_seconds
    return joules


def cpu_seconds(case: Case, outcome: Outcome, first: int, hardware: HardwareProfile) -> float:
    """Seconds in which the CPUs of all nodes compute experts, in those of a whole node's.

    An expert is priced at the mean rows of its pass's missing ones, and takes the cores of the NUMA
    nodes on which experts of one GPU lie, less the share of other GPUs there.
    """
    counts, host = outcome.counts, hardware.host
    hosted = counts.hosted[first:]
    if not hosted.any():
        return 0.0
    rows = counts.kept_rows - counts.access_hits - counts.skipped_rows
    mean = rows[first:] / np.maximum(counts.activations - counts.hits, 1)[first:]
    spent = sum(
        float((case.prices.price("cpu_expert", layer, _whole(mean[:, i])) * of[first:, i]).sum())
        for layers, of in _in_formats(case, counts)
        for i, layer in enumerate(layers[: hosted.shape[1]])
    )
    spent += case.host_start_ns * int((hosted > 0).sum())
    gpus = case.gpus // case.nodes
    sharing = -(-gpus // host.numa_nodes.value)
    return spent / SECOND * min(host.expert_nodes / host.numa_nodes.value / sharing, 1.0)


def _in_formats(case: Case, counts: Counts) -> Iterator[tuple[tuple[LayerSpec, ...], Ints]]:
    """MoE layers with experts in each format that the CPU computes, and how many it did."""
    if case.variants is None:
        yield case.model.moe_layers, counts.hosted
        return
    for form in np.flatnonzero(counts.flags.on_host):
        yield case.variants.layers[case.variants.variant_of[form]], counts.missed[..., form]


def storage_seconds(case: Case, outcome: Outcome, first: int, hardware: HardwareProfile) -> float:
    """Seconds in which drives read, those of all nodes together."""
    del hardware
    if (cache := case.host_cache) is None:
        return 0.0
    counts = outcome.counts
    if case.variants is not None:
        return float(counts.storage_ns[first:].sum()) / SECOND
    reads = counts.storage_reads[first:].sum(axis=(0, 2))
    sizes = counts.stored_bytes(case)
    shape = (cache.requests, cache.mapped, True)
    price = case.prices.price("storage_read", sizes, *shape)
    return float((np.atleast_1d(price) * reads).sum()) / SECOND


def _whole(rows: Any) -> Any:
    return np.maximum(np.rint(rows), 1).astype(np.int64)


def _by_token(name: str, parts: dict[str, float] | None, span: Span) -> dict[str, Any]:
    """The ``parts`` of a sum, and the sum of a million tokens; nothing where there are none."""
    if parts is None:
        return {}
    total = fsum(parts.values()) * MILLION
    return {
        name: parts,
        f"{name}_per_million_output_tokens": _ratio(total, span.output_tokens),
        f"{name}_per_million_tokens": _ratio(total, span.tokens),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
